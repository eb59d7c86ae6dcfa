"""``write_page``: a run as one self-contained HTML file that makes no request."""

from pathlib import Path
from string import Template

from stability.files import replacing
from stability.plots import Run, read
from stability.report import parts
from stability.report.chart import INSTALL, interactive, records, words
from stability.report.lines import headline, summary
from stability.report.markup import escape, lines, prose

TEMPLATE = Path(__file__).with_name("page.html")
PAGE = "index.html"
SCRIPTS = "script-src 'unsafe-inline' 'unsafe-eval'"
NO_SCRIPTS = "script-src 'none'"
GROUPS = (
    "sweep",
    "family",
    "front_end",
    "representation",
    "layer",
    "filters",
    "architecture",
    "asked_displacement_norm",
)
"""Columns that tell groups of rows apart, as far as they are there."""


def write_page(folder: str | Path, out: str | Path | None = None) -> Path:
    """A run as a page: lines that matter, figures, chart, medians, violations, statuses, provenance.

    Args:
        folder: what ``stability quickstart --out`` or ``stability run --store`` wrote.
        out: the file; ``index.html`` in the folder by default.

    Returns:
        The path of the page. It replaces an older one only when it is complete.

    Raises:
        ValueError: if the folder holds no run with a number in it, or ``out`` lies in no folder.
    """
    path = Path(folder) / PAGE if out is None else Path(out)
    run = read(folder)
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"out must be a file in a folder that is there, got {str(out)!r}; make the folder first")
    text = page(run)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def page(run: Run) -> str:
    """The page as text."""
    try:
        chart, scripts = _chart(run), SCRIPTS
    except ImportError:
        chart = f"<p>An interactive chart of the rows appears here after <code>{escape(INSTALL)}</code>.</p>"
        scripts = NO_SCRIPTS
    far = parts.linear(run)
    names = [name for name in GROUPS if name in run.rows]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        scripts=scripts,
        kind=escape(run.record.get("kind", "run of a specification")),
        title=escape(headline(run)),
        headline=prose(headline(run)),
        lines=lines(summary(run)),
        warnings=parts.warnings(run),
        linear=f"<h2>How far from linear</h2>\n{far}" if far else "",
        figures=parts.figures(run),
        chart=chart,
        table=parts.medians(run),
        violations=parts.violation_part(run),
        refinement=parts.refinement_part(run),
        glossary=parts.glossary(run),
        provenance=parts.provenance(run.record),
        again=parts.again(run),
        groups=escape(str(names).replace("'", '"')),
    )


def _chart(run: Run) -> str:
    if not records(run):
        return "<p>No distance above 0 was measured: there is nothing to draw.</p>"
    return f'<p>{escape(words(run))}</p><div class="picture chart">{interactive(run)}</div>'
