r"""A window beyond which everything is zero: when the theorem of the plane covers it.

1 is the indicator of the window; poolings are 1 A 1 and patches 1 P 1. If id - tau maps the window onto itself, L
commutes with 1 and [1 A 1, L] = 1 [A, L] 1. For patches u + c and u - tau(u) + c must also lie on one side of the
border, as they do where tau vanishes as far from it as patches reach; then [1 P 1 A 1, L] is [P A, L] cut down, and
every bound of the plane holds. Otherwise the jump of 1 A z at the border adds a term of order b^(1/2): not covered.
Proof: docs/theory.md.
"""


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
