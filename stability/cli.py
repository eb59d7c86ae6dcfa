"""The command line: ``stability quickstart | run | bound``.

This module imports neither torch nor matplotlib: ``--help`` and ``bound`` start in a fraction of a second.
"""

import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from stability import __version__
from stability.architecture import Architecture, Layer
from stability.kernels import ArcCosine, Exponential, InversePolynomial, Kernel, Linear, Polynomial
from stability.names import resolve, unknown

DONE, FAILED, WRONG_INPUT = 0, 1, 2

KERNELS: dict[str, Callable[[], Kernel]] = {
    "exponential": Exponential,
    "inverse-polynomial": InversePolynomial,
    "polynomial-2": lambda: Polynomial(degree=2, offset=1.0),
    "arc-cosine-0": lambda: ArcCosine(degree=0),
    "arc-cosine-1": lambda: ArcCosine(degree=1),
    "linear": Linear,
}
"""Names of kernels on the command line; ``exponential:ALPHA`` sets alpha."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 wrong input (nothing was written)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parser()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # a polite kill ends the workers too
    try:
        _check_options(given, commands)
        options = parser.parse_args(given)
        return _COMMANDS[options.command](options[options.command])
    except ValueError as error:
        print(f"stability: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_INPUT
    except OSError as error:
        print(f"stability: {error}; what was there before is as it was", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("stability: interrupted; what was there before is as it was", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class _Parser(ArgumentParser):
    """Errors become ``ValueError``, so that every wrong input is told in the same way."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        told = re.sub(r'Parser key "(\w+)"|\b(?:bound|run|quickstart)\.(\w+)', _as_option, " ".join(message.split()))
        raise ValueError(told + "; see stability --help") from ex


def _as_option(match: re.Match[str]) -> str:
    return "--" + (match[1] or match[2]).replace("_", "-")


def _parser() -> "tuple[_Parser, dict[str, _Parser]]":
    parser = _Parser(
        prog="stability",
        description="Measure how far an image representation moves under deformations, next to what the theory allows.",
    )
    parser.add_argument("--version", action="version", version=f"stability {__version__}")
    subcommands = parser.add_subcommands(dest="command", required=True)

    quickstart = _Parser(description="Real images, exact CKNs, the bound: one page in about two minutes.")
    quickstart.add_argument("--out", default="reports/quickstart", help="folder for the page (default: %(default)s)")
    quickstart.add_argument("-j", "--jobs", type=int, default=-1, help="worker processes; -1: one per core")

    run = _Parser(description="Run the sweep of a JSON or YAML file: rows.parquet and run.json.")
    run.add_argument("spec", help="file with a SweepSpec; docs/spec.md has an example")
    run.add_argument("--store", required=True, help="folder for the rows")
    run.add_argument("-j", "--jobs", type=int, default=1, help="worker processes; -1: one per core")

    bound = _Parser(description="The theorem as a calculator: the bound on ||Phi(L_tau x) - Phi(x)|| / ||x||.")
    bound.add_argument("--patch-sizes", type=int, nargs="+", required=True, help="e of every layer, px of its grid")
    bound.add_argument("--pooling-scales", type=float, nargs="+", required=True, help="sigma of every layer, input px")
    bound.add_argument("--subsampling", type=int, nargs="+", help="stride of every layer (default: 1)")
    bound.add_argument("--antialiasing", type=float, default=1.0, help="sigma_0, input px; 0: no A_0 (default: 1)")
    bound.add_argument(
        "--kernels", nargs="+", default=["exponential"], help="one, or one per layer: " + ", ".join(KERNELS)
    )
    bound.add_argument("--displacement", type=float, required=True, help="sup |tau|, px")
    bound.add_argument("--jacobian", type=float, required=True, help="sup ||grad tau||_2, in [0, 1)")
    bound.add_argument("--hessian", type=float, help="sup of the second derivatives, 1 / px")
    bound.add_argument("--divergence", type=float, help="sup |div tau|")
    bound.add_argument("--mean", type=float, default=0.0, help="|c| of a constant c to split off, px")
    bound.add_argument("--residual", type=float, help="sup |tau - c|, px")
    bound.add_argument("--volume-preserving", action="store_true", help="det(I - grad tau) = 1 everywhere")
    bound.add_argument("--dimension", type=int, default=2, help="1 for signals, 2 for images (default: 2)")

    commands = {"quickstart": quickstart, "run": run, "bound": bound}
    helps = {
        "quickstart": "real images, exact CKNs, the bound: one page",
        "run": "run the sweep of a specification file",
        "bound": "the theorem as a calculator",
    }
    for name, command in commands.items():
        subcommands.add_subcommand(name, command, help=helps[name])
    return parser, commands


def _check_options(given: Sequence[str], commands: dict[str, _Parser]) -> None:
    """An unknown command or option is answered with the nearest one."""
    if not given or given[0].startswith("-"):
        return
    command = commands[given[0]] if given[0] in commands else resolve("command", given[0], commands)
    known = [option for action in command._actions for option in action.option_strings]
    for argument in given[1:]:
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise ValueError(unknown(f"an option of {given[0]}", name, [k for k in known if k.startswith("--")]))


def _quickstart(options: Namespace) -> int:
    from pathlib import Path

    folder = Path(_given("out", options.out))
    if options.jobs == 0 or options.jobs < -1:
        raise ValueError(f"jobs must be a positive integer, or -1 for one per core, got {options.jobs}; use -j 2")
    from stability import quickstart  # loads torch

    quickstart.check_folder(folder)
    specification = quickstart.specification()
    frame = quickstart.run(specification, jobs=options.jobs)

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


def _given(name: str, folder: str) -> str:
    if not folder.strip():
        raise ValueError(f"{name} must be the name of a folder, got {folder!r}; use for example reports/mine")
    return folder


def _run(options: Namespace) -> int:
    import json
    from pathlib import Path

    import yaml

    from stability.sweeps.spec import SweepSpec

    path = Path(options.spec)
    if not path.is_file():
        raise ValueError(f"spec must be a JSON or YAML file, got {options.spec!r}, which is none; check the path")
    try:
        data = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"spec must be valid {path.suffix[1:] or 'YAML'}, got {path.name}: {error}; mend it") from None
    if not isinstance(data, dict):
        raise ValueError(f"spec must be a mapping of keys, got {type(data).__name__} in {path.name}; see docs/spec.md")
    folder = _given("store", options.store)
    _check_keys(data)
    spec = SweepSpec(**data)

    from stability.sweeps.run import sweep  # loads torch

    frame = sweep(spec, jobs=options.jobs, out=folder, progress=True)
    print(f"{len(frame)} rows: {Path(folder, 'rows.parquet')}")
    return DONE


def _check_keys(data: object) -> None:
    """Keys of a specification are names: YAML also reads numbers as keys."""
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ValueError(f"a key of the spec must be a name, got {key!r}; see docs/spec.md")
            _check_keys(value)
    elif isinstance(data, list):
        for value in data:
            _check_keys(value)


def _bound(options: Namespace) -> int:
    from stability.bounds.closed_form import closed_form

    if options.jacobian >= 1:
        raise ValueError(
            f"jacobian must be in [0, 1) for id - tau to be a diffeomorphism, got {options.jacobian:g}; "
            "the theorem says nothing beyond"
        )
    sizes = options.patch_sizes
    strides = options.subsampling or [1] * len(sizes)
    kernels = [_kernel(name) for name in options.kernels]
    kernels = kernels * len(sizes) if len(kernels) == 1 else kernels
    for name, values in (("pooling-scales", options.pooling_scales), ("subsampling", strides), ("kernels", kernels)):
        if len(values) != len(sizes):
            raise ValueError(f"{name} must have one value per layer ({len(sizes)}), got {len(values)}; see patch-sizes")
    layers = zip(sizes, options.pooling_scales, strides, kernels, strict=True)
    form = closed_form(
        Architecture(tuple(Layer(*layer) for layer in layers), options.antialiasing),
        displacement_norm=options.displacement,
        jacobian_norm=options.jacobian,
        hessian_norm=options.hessian,
        divergence_norm=options.divergence,
        mean_displacement=options.mean,
        residual_displacement=options.residual,
        volume_preserving=options.volume_preserving,
        d=options.dimension,
    )
    print(form.to_text())
    return DONE


def _kernel(name: str) -> Kernel:
    kind, _, alpha = name.partition(":")
    if not alpha:
        return resolve("kernel", name, KERNELS)()
    try:
        return {"exponential": Exponential}[kind](float(alpha))
    except (KeyError, ValueError):
        raise ValueError(
            f"kernel must be a name or exponential:ALPHA with ALPHA > 0, got {name!r}; use for example exponential:2.37"
        ) from None


_COMMANDS: dict[str, Callable[[Namespace], int]] = {"quickstart": _quickstart, "run": _run, "bound": _bound}

if __name__ == "__main__":
    sys.exit(main())
