r"""Expectations over a standard Gaussian of a function with kinks and jumps: piecewise Gauss-Legendre quadrature.

    c_j = E[f(a) h_j(a)],    h_j = He_j / sqrt(j!) orthonormal,    E[f^2] = sum_j c_j^2 (Parseval).

Gauss-Hermite quadrature of a kinked f converges like 1 / nodes. Here the line is cut at the kinks, and every piece in
which the Legendre series of f has not converged is halved, down to pieces of 1e-12 around the kinks that nobody named.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

REACH, WIDTH, NODES = 16.0, 0.5, 24
"""The pieces cover [-16, 16], sqrt(phi) <= 1e-28 beyond, are at most 0.5 wide, and have 24 nodes each."""
NARROWEST = 1e-12
"""A piece as narrow as this holds a kink or a jump; what it can add to an expectation is below round-off."""
RESOLVED = 1e-14
"""Last Legendre coefficients of f on a piece, times sqrt(phi), in units of sqrt(E[f^2]): below, the piece is kept."""
NOISE = 3e-14
"""The same in units of the largest |f| on the piece: round-off of the coefficients."""
MOST_PIECES = 1 << 14
"""More are not tried: a hundred kinks take some 8,000."""
INFINITE = 1e-3
"""Share of E[f^2] that the pieces around singularities hold together from which on it may be infinite."""
GROWS = 1e-9
"""Share of E[f^2] beyond the pieces from which on the expectation may be infinite."""


@dataclass(frozen=True)
class Mesh:
    """Pieces of the line and f on their nodes."""

    lower: "Tensor"
    """``(P,)``, ascending."""
    upper: "Tensor"
    """``(P,)``."""
    nodes: "Tensor"
    """``(P, NODES)``."""
    values: "Tensor"
    """f, ``(P, NODES)``."""
    scale: float
    """What is large: sqrt(E[f^2]), or that of a function of which f is a part."""

    @property
    def roots(self) -> "Tensor":
        """sqrt of (quadrature weight times phi), ``(P, NODES)``: sums of squares are expectations."""
        half = (self.upper - self.lower)[:, None] / 2.0
        density = (-0.5 * self.nodes.square()).exp() / math.sqrt(2.0 * math.pi)
        return (half * _rule().weights * density).sqrt()

    @property
    def square(self) -> float:
        """E[f^2]."""
        return float((self.values * self.roots).square().sum())

    @property
    def beyond(self) -> float:
        """E[f^2; |a| > 16], an estimate: the masses of the last two half units go on as a geometric series."""
        masses, middle = (self.values * self.roots).square().sum(1), (self.lower + self.upper).abs() / 2.0
        last, before = (float(masses[(middle > far - WIDTH) & (middle <= far)].sum()) for far in (REACH, REACH - WIDTH))
        if not last:
            return 0.0
        return last * last / (before - last) if last < before else math.inf

    @property
    def slope_square(self) -> float:
        """E[f'^2]; infinity where f jumps or f' is not square integrable as far as the pieces tell."""
        if self.jump_square:
            return math.inf
        parts = (self._slopes() * self.roots).square().sum(1)
        narrow = parts[(self.upper - self.lower) < 1e4 * NARROWEST]
        total = float(parts.sum())
        return math.inf if float(narrow.sum()) > 1e-5 * max(total, self.scale**2) else total

    def coefficients(self, degree: int) -> "Tensor":
        """c_0, ..., c_degree, by the three-term recursion of sqrt(phi) h_j; ``(degree + 1,)``."""
        import torch

        x, root = self.nodes.reshape(-1), self.roots.reshape(-1)
        weighted = self.values.reshape(-1) * root
        before, now = torch.zeros_like(x), root
        result = [torch.dot(weighted, now)]
        for j in range(degree):
            before, now = now, (x * now - math.sqrt(j) * before) / math.sqrt(j + 1)
            result.append(torch.dot(weighted, now))
        return torch.stack(result)

    def halved(self, function: Callable[["Tensor"], "Tensor"]) -> "Mesh":
        """The mesh with every piece halved: another quadrature of the same expectations."""
        import torch

        middle = (self.lower + self.upper) / 2.0
        lower = torch.stack([self.lower, middle], 1).reshape(-1)
        return _mesh(function, lower, torch.stack([middle, self.upper], 1).reshape(-1), self.scale)

    def _slopes(self) -> "Tensor":
        """f' of the interpolating polynomials at the nodes, ``(P, NODES)``."""
        return (self.values @ _rule().derivative.T) / ((self.upper - self.lower)[:, None] / 2.0)

    @property
    def jump_square(self) -> float:
        """sum over jumps s of f at t of s^2 phi(t); 0 if there is none."""
        return _large(self._steps(self.values, 2.0 * NARROWEST), 1e-14 * self.scale**2)

    @property
    def kink_square(self) -> float:
        """The same of f'."""
        return _large(self._steps(self._slopes(), 1e5 * NARROWEST), 1e-10 * self.scale**2)

    def _steps(self, values: "Tensor", narrow: float) -> "Tensor":
        """Squares of the differences across the ends of pieces, times phi; pieces as narrow are left out."""
        ends = values @ _rule().ends.T  # (P, 2)
        wide = (self.upper - self.lower) > narrow
        ends, edges = ends[wide], self.lower[wide]
        return (ends[1:, 0] - ends[:-1, 1]).square() * (-0.5 * edges[1:].square()).exp() / math.sqrt(2.0 * math.pi)


def _large(parts: "Tensor", least: float) -> float:
    """The sum of what is larger."""
    return float(parts[parts > least].sum())


def mesh(function: Callable[["Tensor"], "Tensor"], kinks: Sequence[float], scale: float | None = None) -> Mesh:
    """The pieces on which f is resolved.

    Args:
        function: f, from float64 tensors to float64 tensors of the same shape, elementwise.
        kinks: where f or its derivatives jump, as far as known; others are searched for by halving.
        scale: what is large, by default sqrt(E[f^2]).

    Raises:
        ValueError: if f has another shape, is not finite, or vanishes.
    """
    import torch

    grid = torch.linspace(-REACH, REACH, round(2.0 * REACH / WIDTH) + 1, dtype=torch.float64)
    inner = torch.tensor([kink for kink in kinks if abs(kink) < REACH], dtype=torch.float64)
    edges = torch.cat([grid, inner]).unique()
    wide = (edges[1:] - edges[:-1]) > 2.0 * NARROWEST
    todo = _mesh(function, edges[:-1][wide], edges[1:][wide], 0.0)
    whole = scale is None
    if whole:
        _check_repeatable(function, todo)
    scale = math.sqrt(todo.square) if scale is None else scale
    if not 0.0 < scale < math.inf:
        raise ValueError(
            f"E[f(a)^2] of the activation must be positive and finite, got {scale**2:g} from pieces of {WIDTH}; use "
            "another one, or kinks=(...) if all of it is in a narrower place"
        )
    done, count = list[Mesh](), 0
    while len(todo.lower):
        nearest = torch.minimum(todo.lower.abs(), todo.upper.abs()) * (todo.lower * todo.upper > 0)
        tails = (todo.values @ _rule().last.T).abs().amax(1) * (-0.25 * nearest.square()).exp()
        noise = NOISE * todo.values.abs().amax(1)
        split = (tails > RESOLVED * scale) & (tails > noise) & (todo.upper - todo.lower > NARROWEST)
        done.append(_select(todo, ~split))
        count += len(done[-1].lower)
        if count + 2 * int(split.sum()) > MOST_PIECES:
            where = float(todo.lower[split].median())
            raise ValueError(
                f"the activation must be smooth between few kinks, got more than {MOST_PIECES} pieces of the line that "
                f"no polynomial of degree {NODES - 1} fits, around {where:.4g}; smooth it, or compute it in float64"
            )
        middle = (todo.lower + todo.upper)[split] / 2.0
        halves = torch.cat([todo.lower[split], middle]), torch.cat([middle, todo.upper[split]])
        todo = _mesh(function, *halves, scale)
    order = torch.cat([part.lower for part in done]).argsort()
    lower, upper = (torch.cat([getattr(part, name) for part in done])[order] for name in ("lower", "upper"))
    nodes, values = (torch.cat([getattr(part, name) for part in done])[order] for name in ("nodes", "values"))
    found = Mesh(lower, upper, nodes, values, scale)
    if whole:
        _check_finite(found)
    return found


def _check_repeatable(function: Callable[["Tensor"], "Tensor"], pieces: Mesh) -> None:
    """Raise ``ValueError`` if a second call gives other values."""
    again = _mesh(function, pieces.lower, pieces.upper, 0.0).values
    if not bool((again == pieces.values).all()):
        raise ValueError(
            "the activation must give the same values whenever it is called, got others the second time; "
            "use no random numbers (a module's eval())"
        )


def _check_finite(pieces: Mesh) -> None:
    """Raise ``ValueError`` if E[f^2] may be infinite, as far as the pieces tell."""
    masses, width = (pieces.values * pieces.roots).square().sum(1), pieces.upper - pieces.lower
    narrow = masses * (width < 1e4 * NARROWEST)
    if float(narrow.sum()) > INFINITE * float(masses.sum()):
        where = float(pieces.lower[int(narrow.argmax())])
        raise ValueError(
            f"E[f(a)^2] of the activation must be finite, got a singularity near {where:.4g}; clip it there"
        )
    if pieces.beyond > GROWS * float(masses.sum()):
        largest = float(pieces.values.abs().max())
        raise ValueError(
            f"E[f(a)^2] of the activation must be finite, got values up to {largest:.3g} within {REACH:g}; use one "
            "that grows more slowly than exp(t^2 / 5)"
        )


def _mesh(function: Callable[["Tensor"], "Tensor"], lower: "Tensor", upper: "Tensor", scale: float) -> Mesh:
    """The pieces with f on their nodes."""
    import torch

    nodes = (lower + upper)[:, None] / 2.0 + (upper - lower)[:, None] / 2.0 * _rule().points
    if not len(lower):
        return Mesh(lower, upper, nodes, nodes, scale)
    with torch.no_grad():
        values = function(nodes.clone())
    if not isinstance(values, torch.Tensor):
        raise ValueError(
            f"the activation must return a tensor, got {type(values).__name__}; use a function such as torch.tanh"
        )
    if values.shape != nodes.shape:
        raise ValueError(
            f"the activation must be elementwise, {tuple(nodes.shape)} -> {tuple(nodes.shape)}, got "
            f"{tuple(values.shape)}; use a function such as torch.tanh"
        )
    if values.dtype != torch.float64:
        raise ValueError(
            f"the activation must return float64 like its argument, got {values.dtype}; compute in float64, or end "
            "with .to(t.dtype)"
        )
    if not bool(torch.isfinite(values).all()):
        where = float(nodes[~torch.isfinite(values)][0])
        raise ValueError(f"the activation must be finite on [-16, 16], got a value that is not at {where:.4g}; clip it")
    return Mesh(lower, upper, nodes, values, scale)


def _select(pieces: Mesh, keep: "Tensor") -> Mesh:
    """The pieces of which ``keep`` is true."""
    lower, upper, nodes, values = pieces.lower, pieces.upper, pieces.nodes, pieces.values
    return Mesh(lower[keep], upper[keep], nodes[keep], values[keep], pieces.scale)


@dataclass(frozen=True)
class _Rule:
    """Gauss-Legendre quadrature on [-1, 1], and matrices that act on the values of f at its nodes."""

    points: "Tensor"
    """``(NODES,)``."""
    weights: "Tensor"
    """``(NODES,)``."""
    derivative: "Tensor"
    """f' at the nodes, ``(NODES, NODES)``."""
    ends: "Tensor"
    """f at -1 and 1, ``(2, NODES)``."""
    last: "Tensor"
    """The last three Legendre coefficients, ``(3, NODES)``."""


@functools.cache
def _rule() -> _Rule:
    """The rule, made once."""
    import numpy
    import torch
    from numpy.polynomial import legendre

    points, weights = legendre.leggauss(NODES)
    degrees = numpy.arange(NODES)
    analysis = (degrees[:, None] + 0.5) * legendre.legvander(points, NODES - 1).T * weights  # coefficient k of f
    slopes = legendre.legder(numpy.eye(NODES))  # (NODES - 1, NODES)
    derivative = legendre.legvander(points, NODES - 2) @ slopes @ analysis
    ends = legendre.legvander(numpy.array([-1.0, 1.0]), NODES - 1) @ analysis
    parts = (points, weights, derivative, ends, analysis[-3:])
    return _Rule(*(torch.from_numpy(numpy.ascontiguousarray(part)) for part in parts))
