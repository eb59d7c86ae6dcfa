r"""What the theorem does not cover: fields that fold, filters before A_0, and most windows with zeros beyond.

Zeros beyond a window: 1 is the indicator of the window; poolings are 1 A 1 and patches 1 P 1. If id - tau maps the
window onto itself, L commutes with 1 and [1 A 1, L] = 1 [A, L] 1. For patches u + c and u - tau(u) + c must also lie on
one side of the border, as they do where tau vanishes as far from it as patches reach; then [1 P 1 A 1, L] is [P A, L]
cut down, and every bound of the plane holds. Otherwise the jump of 1 A z at the border adds a term of order b^(1/2):
not covered. Proof: docs/theory.md.
"""

import math

from stability.architecture import Architecture
from stability.boundaries import Zero
from stability.bounds.field import FieldNorms
from stability.bounds.form import ClosedForm
from stability.bounds.rung import Status


def folds(b: float) -> str:
    """What is said of sup ||grad tau|| >= 1."""
    return f"jacobian_norm = {b:g} >= 1: id - tau need not be a diffeomorphism; scale the field down"


def uncovered(note: str, norms: FieldNorms, trivial: float = math.inf) -> ClosedForm:
    """Nothing but what the norms allow, and why."""
    constants = {"a": norms.displacement, "b": norms.jacobian, "d": norms.d}
    return ClosedForm(math.inf, "none", Status.NOT_COVERED, trivial, constants=constants, notes=(note,))


def not_covered(architecture: Architecture, border: float | None, keeps_zero: bool) -> str | None:
    """Why no theorem covers the network, in words; None if one does.

    Args:
        architecture: the network.
        border: width of the strip along the border in which tau = 0, px; None: tau need not vanish at the border.
        keeps_zero: whether every layer maps 0 to 0.
    """
    front_end = architecture.front_end
    if front_end is not None and not front_end.in_closed_form:
        return f"front end {type(front_end).__name__}: a filter before A_0; [P_1 F A_0, L] has no closed form"
    return (
        open_border(architecture.patch_reach, border, keeps_zero) if isinstance(architecture.boundary, Zero) else None
    )


def open_border(reach: int, border: float | None, keeps_zero: bool) -> str | None:
    """Why the theorem does not cover a network with zeros beyond the border, in words; None if it does.

    Args:
        reach: how far patches reach along an axis, px: ``Architecture.patch_reach``.
        border: width of the strip along the border in which tau = 0, px; None: tau need not vanish at the border.
        keeps_zero: whether every layer maps 0 to 0.

    >>> open_border(2, 2.0, True) is None
    True
    """
    if not keeps_zero:
        return "boundary Zero(): the layers must map 0 to 0; what they make of the image 0 is not constant"
    if border is not None and border >= reach:
        return None
    got = "a field that need not vanish" if border is None else f"{border:g} px"
    return (
        f"boundary Zero(): the field must vanish up to {reach} px from the border, as far as patches reach, got {got}; "
        "use CompactField(border=...)"
    )
