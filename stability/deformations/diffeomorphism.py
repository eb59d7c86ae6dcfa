r"""Whether u -> u - tau(u) is a diffeomorphism, with the reason.

Proofs of yes, in the order in which they are tried:

1. sup ||grad tau|| <= b < 1: (1 - b) |u - v| <= |phi(u) - phi(v)| on the torus and on windows, which are convex; on
   the torus phi = id - tau is onto as well (Hadamard).
2. by construction, where the family says so (flows).
3. inf det(I - grad tau) > 0 where tau is periodic, or vanishes at the border of its window: phi is homotopic to the
   identity, so its degree is 1, and the number of preimages of v is the sum of the signs of det over them, which is 1.
   For piecewise linear fields the same count over triangles gives a homeomorphism: around a vertex, too, phi covers a
   neighbourhood of its image. An affine phi is injective if det != 0.

Of no: det < 0 at a point. Since the degree is 1, values near phi(u) then have three preimages or more. On a window at
whose border tau does not vanish det must take both signs: between them phi is not regular.

Reference: Hadamard 1906; Milnor 1965, Topology from the Differentiable Viewpoint, section 5 (degree).
"""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import final

import torch
from torch import Tensor

from stability.deformations.ascent import approach, ascend
from stability.deformations.base import Deformation
from stability.deformations.domains import Window
from stability.deformations.pointwise import FieldLengths, counts, derivative_bounds
from stability.deformations.stretching import swell

_ROUND_OFF = 1e-12
"""Determinants closer to 0 than this, relative to (1 + ||grad tau||)^d, have no sign."""

_SHOWN = 8
"""Most fields whose reasons are shown."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class Diffeomorphism:
    """The answer of ``Deformation.is_diffeomorphism``; true as a condition if it is yes for all fields.

    Args:
        holds: where u - tau(u) is proved to be a diffeomorphism of its domain onto the image, bool ``batch_shape``.
        fails: where it is proved not to be one; neither: unknown.
        reasons: why, one text per field of the flattened batch.

    >>> from stability.deformations.translation import Translation
    >>> Translation((3.0, 4.0)).is_diffeomorphism()
    Diffeomorphism: yes: ||grad tau|| <= 0 < 1, so u - tau(u) is bi-Lipschitz
    """

    holds: Tensor
    fails: Tensor
    reasons: tuple[str, ...]

    @property
    def verdicts(self) -> tuple[bool | None, ...]:
        """True, False or None (unknown) per field of the flattened batch."""
        pairs = zip(self.holds.flatten().tolist(), self.fails.flatten().tolist(), strict=True)
        return tuple(None if not yes and not no else yes for yes, no in pairs)

    def __bool__(self) -> bool:
        return bool(self.holds.all())

    def __repr__(self) -> str:
        words = [{True: "yes", False: "no", None: "unknown"}[verdict] for verdict in self.verdicts]
        if not self.holds.ndim:
            return f"Diffeomorphism: {words[0]}: {self.reasons[0]}"
        total = ", ".join(f"{words.count(word)} {word}" for word in ("yes", "no", "unknown"))
        lines = [
            f"  [{i}] {word}: {why}" for i, (word, why) in enumerate(zip(words[:_SHOWN], self.reasons, strict=False))
        ]
        more = [f"  ... {len(words) - _SHOWN} more in .reasons"] if len(words) > _SHOWN else []
        return "\n".join([f"Diffeomorphism of {len(words)} fields: {total}", *lines, *more])


def judge(field: Deformation) -> Diffeomorphism:
    """Whether u -> u - tau(u) is a diffeomorphism of the domain onto its image, for each field.

    Args:
        field: its certified norms are read, those of the determinant only where b < 1 fails.
    """
    b = field.norms().jacobian.upper.reshape(-1)
    gradients = field.gradients()
    finite = None if gradients is None else (1 + swell(gradients.detach().to(torch.float64)))  # det, (n, T)
    exact = torch.zeros_like(b, dtype=torch.bool) if field.injective is None else field.injective.reshape(-1)
    if bool(((b < 1) | exact).all()):
        low, high = torch.zeros_like(b), torch.zeros_like(b)  # not needed
    else:
        determinant = field.norms().determinant_infimum
        low, high = determinant.lower.reshape(-1), determinant.upper.reshape(-1)
    return _Judge(field, b, field.norms().jacobian.lower.reshape(-1), exact, low, high, finite).verdict()


@dataclass(frozen=True, eq=False)
class _Judge:
    field: Deformation
    b: Tensor  # (n,) certified sup ||grad tau||
    seen: Tensor  # (n,) attained ||grad tau||
    constructed: Tensor  # (n,) injective by construction
    low: Tensor  # (n,) certified inf det
    high: Tensor  # (n,) attained inf det
    finite: Tensor | None  # (n, T) all values of det

    def verdict(self) -> Diffeomorphism:
        found = [self._of(i) for i in range(len(self.b))]
        shape, device = self.field.batch_shape, self.b.device
        holds = torch.tensor([verdict is True for verdict, _ in found], dtype=torch.bool, device=device)
        fails = torch.tensor([verdict is False for verdict, _ in found], dtype=torch.bool, device=device)
        return Diffeomorphism(holds.reshape(shape), fails.reshape(shape), tuple(why for _, why in found))

    def _of(self, i: int) -> tuple[bool | None, str]:
        domain, b = self.field.domain, float(self.b[i])
        closed = not isinstance(domain, Window) or domain.vanishing
        if b < 1:
            return True, f"||grad tau|| <= {_up(b)} < 1, so u - tau(u) is bi-Lipschitz"
        low, high = float(self.low[i]), float(self.high[i])
        none = _ROUND_OFF * (1 + float(self.seen[i])) ** self.field.d
        if self.finite is not None and self.finite.shape[1] == 1 and not closed:
            return self._affine(float(self.finite[i, 0]), none)
        if bool(self.constructed[i]):
            return True, "by construction of the family"
        if high < -none:
            if closed:
                return False, f"det(I - grad tau) = {high:.4g} < 0 {self._where(i)}: values there have three preimages"
            if self._highest(i) > none:
                return False, f"det(I - grad tau) changes its sign: it is {high:.4g} {self._where(i)}"
            return None, f"det(I - grad tau) = {high:.4g} < 0 {self._where(i)}, and no positive value was seen"
        if low > none and closed:
            if self.finite is not None:
                return True, f"homeomorphism, piecewise linear: det >= {_down(low)} > 0 on all pieces, and degree one"
            border = " and tau = 0 at the border" if isinstance(domain, Window) else ""
            return True, f"det(I - grad tau) >= {_down(low)} > 0{border}: a local diffeomorphism of degree one"
        if low > none:
            return None, (
                f"det(I - grad tau) >= {_down(low)} > 0, but ||grad tau|| is {b:.4g} and tau does not vanish at the "
                "border: different points may have one image"
            )
        if high <= none:
            return None, f"det(I - grad tau) is 0 up to round-off {self._where(i)}"
        known = f"certified only above {_down(low)}" if math.isfinite(low) else "not certified"
        return None, f"||grad tau|| is not certified below 1; det(I - grad tau) is seen down to {high:.4g} and {known}"

    def _affine(self, determinant: float, none: float) -> tuple[bool | None, str]:
        if abs(determinant) <= none:
            return None, "affine, det(I - grad tau) is 0 up to round-off"
        turned = "" if determinant > 0 else "; it reverses the orientation"
        return True, f"affine, det(I - grad tau) = {determinant:.4g} is not 0{turned}"

    def _where(self, i: int) -> str:
        """Where the least determinant was seen."""
        if self.finite is not None:
            return "on a piece"
        _, place = self._ascended(i, -1.0)
        return "at (" + ", ".join(f"{value:.4g}" for value in place[0].tolist()) + ")"

    def _highest(self, i: int) -> float:
        """The largest determinant seen."""
        if self.finite is not None:
            return float(self.finite[i].max())
        return 1 + float(self._ascended(i, 1.0)[0])

    def _ascended(self, i: int, sign: float) -> tuple[Tensor, Tensor]:
        one = self.field.flat()[i : i + 1]
        functions = FieldLengths(one, (1,), lambda jacobian: sign * swell(jacobian))
        with torch.no_grad():
            return ascend(functions, approach(functions, counts(one, derivative_bounds(one), 1)))


def _up(value: float) -> str:
    """Rounded up, so that "at most" stays true; with more digits next to 1."""
    digits = 4 if value <= 0.999 or value >= 1 else 17
    return f"{float(Context(prec=digits, rounding=ROUND_CEILING).create_decimal(value)):.{digits}g}"


def _down(value: float) -> str:
    """Rounded down, so that "at least" stays true."""
    return f"{float(Context(prec=4, rounding=ROUND_FLOOR).create_decimal(value)):.4g}"
