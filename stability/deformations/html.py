"""What a notebook shows for a field: its family, size and norms beside a small picture. No scripts, no style sheet."""

from collections.abc import Iterable, Iterator
from html import escape

from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.domains import Torus
from stability.deformations.norms import Interval

MOST = 16
"""Fields whose norms are computed for being shown."""
SIDE = 150
"""Longer side of the picture on the page, in CSS pixels."""
INTERVALS = 48
"""Of the grid behind the picture, along the longer side."""
COLORS = ("#56B4E9", "#E69F00")
"""Columns and rows of the grid: seen on white and on black."""

_CARD = (
    "display:inline-flex;gap:18px;align-items:center;max-width:100%;padding:10px 14px;border-radius:6px;"
    "border:1px solid rgba(128,128,128,0.45);font:13px/1.5 system-ui,sans-serif"
)
_TABLE = "border-collapse:collapse;border:0;margin:4px 0;color:inherit;font:inherit"
_ROW = "background:none;border:0"
_CELL = "padding:1px 16px 1px 0;text-align:left;border:0"
_PALE = "opacity:0.72"


def html(field: Deformation) -> str:
    """A card: family, size, batch, parameters, norms seen and certified, and the first field's deformed grid.

    Of at most 16 fields sup |tau| and sup ||grad tau||_2 are computed for it; others are shown if they are known.

    Args:
        field: any batch.

    Returns:
        One HTML element; it takes the page's colours for text, so that it can be read on white and on black.
    """
    n = field.batch_shape.numel()
    sides = " × ".join(map(str, field.size))
    domain = "torus" if isinstance(field.domain, Torus) else "window"
    fields = "one field" if not field.batch_shape else f"batch {tuple(field.batch_shape)}"
    facts = f"{sides} px {domain}, {fields}, {str(field.dtype).removeprefix('torch.')}, {field.device}"
    return (
        f'<div style="{_CARD}">{_picture(field) if n else ""}<div>'
        f"<div><b>{escape(type(field).__name__)}</b> {escape(facts)}</div>"
        f"{_norms(field, n)}{_parameters(field)}</div></div>"
    )


def _norms(field: Deformation, n: int) -> str:
    if not n:
        return ""
    norms = field.norms()
    named = [
        ("sup |τ| / px", norms.displacement),
        ("sup ‖∇τ‖₂", norms.jacobian),
        ("sup ‖∇²τ‖ · px", norms.hessian),
        ("sup |div τ|", norms.divergence),
        ("osc τ / px", norms.oscillation),
    ]
    shown = [entry for i, entry in enumerate(named) if (i < 2 and n <= MOST) or _known(entry[1])]
    rows = "".join(
        f'<tr style="{_ROW}">{_cell(name)}{_cell(_span(interval.lower, 0))}{_cell(_span(interval.upper, 1))}</tr>'
        for name, interval in shown
    )
    heads = "".join(f'<th style="{_CELL};font-weight:600">{name}</th>' for name in ("norm", "seen", "certified"))
    table = f'<table style="{_TABLE}"><tr style="{_ROW}">{heads}</tr>{rows}</table>' if rows else ""
    asked = "" if n <= MOST else f"<div>Norms of {n} fields: norms().displacement, norms().jacobian compute them.</div>"
    return table + asked


def _known(interval: Interval) -> bool:
    return {"lower", "upper"} <= vars(interval).keys()


def _span(values: Tensor, end: int) -> str:
    """The least and the largest value of a batch, seen ones rounded down and certified ones up."""
    from stability.plots.deformation import outward

    ends = [float(values.min()), float(values.max())]
    words = [outward(value, value)[end] if value < float("inf") else "none" for value in ends]
    return words[0] if words[0] == words[1] else f"{words[0]} … {words[1]}"


def _cell(text: str) -> str:
    return f'<td style="{_CELL};white-space:nowrap">{escape(text)}</td>'


def _parameters(field: Deformation) -> str:
    from stability.deformations.files import Kept

    if not isinstance(field, Kept):
        return ""
    contents, settings = field.state()

    def words() -> Iterator[str]:
        for name, value in contents.items():
            if isinstance(value, Tensor):
                yield f"{name} {tuple(value.shape)}"
            elif isinstance(value, Deformation):
                yield f"{name} {type(value).__name__}"
            else:
                yield f"{name} {', '.join(type(part).__name__ for part in value)}"
        yield from (f"{name} = {value}" for name, value in settings.items() if name != "size")

    return f'<div style="{_PALE}">{escape("; ".join(words()))}</div>'


def _picture(field: Deformation) -> str:
    """The deformed grid as SVG; for a signal the curve tau."""
    from stability.plots.sampled import extent, grid_lines, sample, spacing

    shape = field.batch_shape
    one = field[(0,) * len(shape)] if shape else field
    longer = max(one.size)
    sampled = sample(one, tuple(max(8, round(INTERVALS * side / longer)) for side in reversed(one.size)))
    if one.d == 1:
        u, tau = sampled.axes[0], sampled.displacement[:, 0]
        x, y = (u - u[0]) / longer, 0.3 - 0.27 * tau / max(float(abs(tau).max()), 1e-9)
        return _svg("the displacement along the signal", (0.0, 0.0, 1.0, 0.6), [(COLORS[0], zip(x, y, strict=True))])
    (left, right), (top, bottom) = extent(one)
    grid = zip(COLORS, grid_lines(sampled, spacing(one.size)), strict=True)
    lines = [(color, line) for color, found in grid for line in found]
    return _svg("a straight grid after the deformation", (left, top, right - left, bottom - top), lines)


def _svg(
    what: str, box: tuple[float, float, float, float], lines: Iterable[tuple[str, Iterable[tuple[float, float]]]]
) -> str:
    """Polygonal lines in a frame."""
    left, top, width, height = box
    scale = SIDE / max(width, height)
    paths = "".join(
        f'<path stroke="{color}" d="M{"L".join(f"{x:.4g} {y:.4g}" for x, y in line)}"/>' for color, line in lines
    )
    return (
        f'<svg role="img" aria-label="{what}" viewBox="{left:g} {top:g} {width:g} {height:g}" '
        f'width="{scale * width:.0f}" height="{scale * height:.0f}" fill="none" style="flex:none" '
        f'stroke-width="{1.1 / scale:.3g}" stroke-linejoin="round"><rect x="{left:g}" y="{top:g}" width="{width:g}" '
        f'height="{height:g}" stroke="currentColor" stroke-opacity="0.4"/>{paths}</svg>'
    )
