"""``stability quickstart | report | plot``: figures and the page."""

from pathlib import Path

from jsonargparse import Namespace

from stability.cli.parser import Command, Parser, add_jobs, check_jobs, given

DONE = 0


def quickstart_command() -> list[Command]:
    """``quickstart``."""
    quickstart = Parser(description="Real images, exact CKNs, the bound: one page in about two minutes.")
    quickstart.add_argument("--out", default="reports/quickstart", help="folder for the page")
    add_jobs(quickstart, -1)
    return [Command("quickstart", "real images, exact CKNs, the bound: one page", quickstart, _quickstart)]


def commands() -> list[Command]:
    """``report``, ``plot``."""
    report = Parser(description="One self-contained page of a store: figures, table, bounds, provenance.")
    report.add_argument("store", help="a folder that `stability run` completed, or a quickstart")
    report.add_argument("-o", "--out", help="file for the page (default: index.html in the store)")

    plot = Parser(description="One figure of a store.")
    plot.add_argument("store", help="a folder that `stability run` completed, or a quickstart")
    plot.add_argument(
        "--figure",
        required=True,
        help="strip, largest_found, searched, distance_versus_deformation (trained beside random weights, too), plane, "
        "pooling_scale, patch_size or anchors, as far as the rows allow",
    )
    plot.add_argument("--style", default="screen", help="screen or paper")
    plot.add_argument("-o", "--out", required=True, help="file.pdf, file.png or file.svg")
    return [
        Command("report", "one self-contained page of a store", report, _report),
        Command("plot", "one figure of a store", plot, _plot),
    ]


def _quickstart(options: Namespace) -> int:
    folder = Path(given("out", options.out))
    jobs = check_jobs(options.jobs)
    from stability import quickstart  # loads torch

    quickstart.check_folder(folder)
    specification = quickstart.specification()
    frame = quickstart.run(specification, jobs=jobs)

    from stability import plots, report
    from stability.report.page import PAGE

    with quickstart.replaced(folder) as new:  # the folder changes as a whole or not at all
        quickstart.write(new, specification, frame)
        plots.draw_all(new)
        report.write_page(new)
    for line in report.summary(plots.read(folder)):
        print(line)
    print(f"page: {folder / PAGE}")
    return DONE


def _report(options: Namespace) -> int:
    from stability import report

    folder = given("store", options.store)
    page = report.write_page(folder, None if options.out is None else Path(given("out", options.out)))
    print(f"page: {page}")
    return DONE


def _plot(options: Namespace) -> int:
    from stability import plots

    out = Path(given("out", options.out))
    plots.draw(given("store", options.store), options.figure, style=options.style, out=out)
    print(f"figure: {out}")
    return DONE
