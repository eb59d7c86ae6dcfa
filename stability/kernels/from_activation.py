r"""The dual kernel of any activation, from its Hermite coefficients.

    kappa(u) = E[f(a) f(b)] / E[f(a)^2] = sum_j c_j^2 u^j / sum_j c_j^2,     c_j = E[f(a) h_j(a)],

for standard Gaussian (a, b) of correlation u (Mehler's formula). Every coefficient is non-negative, so that the
truncated series is a kernel too: that of the activation whose coefficients are the ones kept.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stability.kernels import graphs, hermite
from stability.kernels.base import Kernel, is_number
from stability.kernels.tails import Tail, law, tail

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 4
"""Terms that one pass adds: kappa = (... ((p_m) u^4 + p_(m-1)) u^4 + ...), p_i cubic in u."""
NEGLIGIBLE = 1e-17
"""Share of sum c_j^2 that the degrees left out at the end may hold together."""
ROUND_OFF = 1e-14
"""A share below that is no tail."""


@dataclass(frozen=True)
class SeriesError:
    """What a computed dual kernel may miss, in units of kappa(1) = 1."""

    truncation: float
    """sup over [-1, 1] of the error of kappa by the truncation: a proof (Parseval and Jensen), if the expectations are
    exact."""
    slope: float
    """The same of kappa'; infinite if f jumps."""
    quadrature: float
    """An estimate: by how much E[f^2] and the c_j^2 differ from those of a quadrature with twice as many nodes, and the
    mass that lies beyond it."""


@dataclass(frozen=True)
class FromActivation(Kernel):
    """kappa(u) = E[f(a) f(b)] / E[f(a)^2] for any activation f, by its Hermite series of degree J.

    The even degrees above J hold tau = E[g^2] - sum_(even j <= J) c_j^2, g the even part of f, and, if f is Lipschitz,
    tau_1 = E[g'^2] - sum j c_j^2; even powers of u with the same tau and tau_1 take their place, and the odd ones
    likewise. So kappa and kappa' are those of f at 1 and -1.

    Smooth f: c_j^2 decays at least like exp(-c sqrt(j)), and the error is round-off. At a kink c_j^2 falls like
    j^(-5/2), at a jump like j^(-3/2); the powers follow that law, so that small distances are right within a few per
    cent (an estimate; ``error`` says what is proved, which is less). Prefer a closed form there (``ArcCosine``,
    ``LeakyReLU``, ``Sign``).

    Args:
        activation: f, elementwise, from float64 tensors to tensors of the same shape, with E[f^2] finite.
        kinks: where f or f' jumps, if you know; others are searched for by bisection.
        degree: J >= 1; fewer terms are kept where the rest is below round-off.

    Raises:
        ValueError: for what is no function, or when the kernel is first used: f of another shape or type, random,
            infinite or zero, with E[f^2] that may be infinite, or with too many kinks.

    Reference: Daniely, Frostig & Singer 2016 (dual activations).

    >>> import torch
    >>> kernel = FromActivation(torch.nn.functional.gelu)
    >>> round(kernel.derivative_at_one, 4), kernel.error.truncation < 1e-14
    (1.072, True)
    """

    activation: Callable[["Tensor"], "Tensor"]
    kinks: tuple[float, ...] = ()
    degree: int = 128

    def __post_init__(self) -> None:
        if not callable(self.activation):
            raise ValueError(f"activation must be a function of a tensor, got {self.activation!r}; use torch.tanh")
        if not isinstance(self.kinks, tuple | list) or not all(is_number(kink) for kink in self.kinks):
            raise ValueError(f"kinks must be a tuple of numbers, got {self.kinks!r}; use () to have them searched for")
        if isinstance(self.degree, bool) or not isinstance(self.degree, int) or not 1 <= self.degree <= 1024:
            raise ValueError(f"degree must be an integer in [1, 1024], got {self.degree!r}; use degree=128")
        object.__setattr__(self, "kinks", tuple(sorted(float(kink) for kink in self.kinks)))

    @property
    def derivative_at_one(self) -> float:
        """E[f'^2] / E[f^2]; infinity if f jumps."""
        return math.fsum(part.slope_square for part in self._parts) / self._square

    @property
    def weights(self) -> tuple[float, ...]:
        """b_j = c_j^2 / E[f^2] for j = 0, ..., J, sum at most 1."""
        return self._series[0]

    @property
    def tail(self) -> tuple[tuple[int, float], ...]:
        """(degree, weight) of the powers of u that stand for the degrees above J."""
        return tuple(term for part in self._series[1] for term in part.terms)

    @functools.cached_property
    def error(self) -> SeriesError:
        """What the computed kappa may miss: the truncation (a proof) and the quadrature (an estimate)."""
        tails = self._series[1]
        change = math.fsum(part.beyond for part in self._parts)
        for part, function in zip(self._parts, self._functions, strict=True):
            fine = part.halved(function)
            squares, again = (mesh.coefficients(self.degree).square() for mesh in (part, fine))
            change += abs(fine.square - part.square) + float((squares - again).abs().sum())
        return SeriesError(
            math.fsum(part.spread for part in tails),
            math.fsum(part.slope for part in tails),
            2.0 * change / self._square,
        )

    def evaluate_(self, cosine: "Tensor") -> "Tensor":
        """sum_j b_j u^j."""
        return self._evaluate_(cosine, 0)

    def derivative_(self, cosine: "Tensor") -> "Tensor":
        """sum_j j b_j u^(j - 1): at 1 that of f if f is Lipschitz, large but finite if f jumps."""
        return self._evaluate_(cosine, 1)

    def second_derivative_(self, cosine: "Tensor") -> "Tensor":
        """sum_j j (j - 1) b_j u^(j - 2)."""
        return self._evaluate_(cosine, 2)

    @property
    def _functions(self) -> tuple[Callable[["Tensor"], "Tensor"], ...]:
        """The even and the odd part of f."""
        f = self.activation
        # f may work in place: it gets tensors of its own
        return (lambda t: (f(t.clone()) + f(-t)) / 2.0), (lambda t: (f(t.clone()) - f(-t)) / 2.0)

    @functools.cached_property
    def _parts(self) -> tuple[hermite.Mesh, ...]:
        """The quadrature of the even and of the odd part of f."""
        scale = hermite.mesh(self.activation, self.kinks).scale
        kinks = (*self.kinks, *(-kink for kink in self.kinks))
        return tuple(hermite.mesh(function, kinks, scale) for function in self._functions)

    @functools.cached_property
    def _square(self) -> float:
        """E[f^2]."""
        return math.fsum(part.square for part in self._parts)

    @functools.cached_property
    def _series(self) -> tuple[tuple[float, ...], tuple[Tail, ...]]:
        """Weights of the degrees up to J, and the powers that stand for the others; the sum is 1."""
        square, values, tails = self._square, [0.0] * (self.degree + 1), list[Tail]()
        for parity, part in enumerate(self._parts):
            own = (part.coefficients(self.degree).square() / square).tolist()[parity::2]
            values[parity::2] = own
            rest = part.square / square - math.fsum(own)
            slope = part.slope_square / square - math.fsum(
                j * value for j, value in enumerate(values) if j % 2 == parity
            )
            if rest > ROUND_OFF:
                first = self.degree + 1 + (self.degree + 1 + parity) % 2
                head = math.fsum(value for j, value in enumerate(values) if 2 * j >= first and j % 2 == parity)
                parts = (steps / square for steps in (part.jump_square, part.kink_square))
                tails.append(tail(first, rest, slope, law(first, rest, slope, head, *parts)))
        dropped = 0.0
        while not tails and len(values) > 1 and dropped + values[-1] < NEGLIGIBLE:
            dropped += values.pop()
        total = math.fsum(values) + math.fsum(part.rest for part in tails)
        return tuple(value / total for value in values), tuple(part.divided(total) for part in tails)

    def _evaluate_(self, cosine: "Tensor", order: int) -> "Tensor":
        """The derivative of an order of the polynomial, in place."""
        import torch

        weights, tails = self._series
        terms = [math.perm(j, order) * value for j, value in enumerate(weights)][order:] or [0.0]
        terms += [0.0] * (-len(terms) % BLOCK)
        blocks = cosine.new_tensor(terms).view(-1, BLOCK)

        def action(u: "Tensor") -> None:
            u.clamp_(-1.0, 1.0)
            rows = torch.stack([torch.ones_like(u), u, u.square(), u.pow(3)])
            fourth = rows[2].square()
            total = torch.mv(rows.T, blocks[-1])
            for block in blocks[:-1].flip(0):
                total.mul_(fourth).addmv_(rows.T, block)
            for part in tails:
                part.add_(total, u, order)
            u.copy_(total)

        return graphs.in_chunks(cosine, self._orders(order), action)
