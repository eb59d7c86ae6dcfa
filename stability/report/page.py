"""``write_page``: a run as one self-contained HTML file that makes no request."""

from pathlib import Path
from string import Template

from stability.plots import Run, read
from stability.report import parts
from stability.report.chart import INSTALL, interactive
from stability.report.lines import headline, summary
from stability.sweeps.result import replacing

TEMPLATE = Path(__file__).with_name("page.html")
PAGE = "index.html"
SCRIPTS = "script-src 'unsafe-inline' 'unsafe-eval'"
NO_SCRIPTS = "script-src 'none'"


def write_page(folder: str | Path) -> Path:
    """``index.html`` in a folder: lines that matter, figures, medians, violations, statuses, provenance.

    Args:
        folder: what ``stability quickstart --out`` wrote.

    Returns:
        The path of the page. It replaces an older one only when it is complete.

    Raises:
        ValueError: if the folder lacks a sweep that a figure needs.
    """
    text = page(read(folder))
    path = Path(folder) / PAGE
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def page(run: Run) -> str:
    """The page as text."""
    try:
        chart, scripts = _chart(run), SCRIPTS
    except ImportError:
        chart = f"<p>An interactive chart of the rows appears here after <code>{parts.escape(INSTALL)}</code>.</p>"
        scripts = NO_SCRIPTS
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        scripts=scripts,
        kind=parts.escape(run.record.get("kind", "run")),
        title=parts.escape(headline(run)),
        headline=parts.prose(headline(run)),
        lines=parts.lines(summary(run)),
        warnings=parts.warnings(run),
        linear=parts.linear(run),
        figures=parts.figures(run),
        chart=chart,
        table=parts.medians(run),
        violations=parts.violation_part(run),
        refinement=parts.refinement_part(run),
        glossary=parts.glossary(run),
        provenance=parts.provenance(run.record),
        again=parts.again(run.record),
    )


def _chart(run: Run) -> str:
    words = (
        "<p>One point per row of the curves; hover to read it. The bound and the trivial bound of the row stand in its "
        "label.</p>"
    )
    return f'{words}<div class="picture chart">{interactive(run)}</div>'
