r"""A certified upper value of sup ||J tau|| over C(a, b) by quadratic majorants of the two balls.

For weights w_i >= 0 of the nodes and positive semidefinite Q_k of the triangles with sum w_i + sum tr Q_k = 1, every
field of C(a, b) has

    <tau, M tau> = sum_i w_i |tau_i|^2 / a^2 + sum_k tr(Q_k J_k^T J_k) / b^2 <= 1,

because J_k^T J_k <= b^2 I. Hence ||J tau||^2 <= lambda, the largest eigenvalue of J^T J relative to M. With the
multipliers of the linear step at a maximiser, w_i ~ |y_i| and Q_k ~ (W_k^T W_k)^(1/2), the maximiser is an eigenvector
and its value an eigenvalue; it is the largest one if the relaxation is tight. Otherwise the weights move towards where
the eigenvector breaks the constraints: w_i <- w_i (1 + eta (|v_i|^2 / a^2 - 1)), which keeps their sum.

lambda comes from Lanczos' method with a random start. A Ritz value is below it; with probability 1 - delta

    lambda <= ritz_k / (1 - eps),    eps = (ln(1.648 n^(1/2) / delta) / (2 k - 1))^2    after k steps.

Reference: Kuczynski & Wozniakowski 1992, theorem 4.2 (Lanczos with a random start); Nesterov 1998 (the relaxation).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stability.deformations.linear_step import Splitting, ball, clip
from stability.deformations.triangulation import component_gradients


class Weights:
    """w and Q of one image, sum w + sum tr Q = 1, and the metric M that belongs to them.

    Args:
        nodes: w, ``lattice``.
        triangles: Q, ``(d, d, simplices, *lattice)``.
        cells: sides of a cell.
        displacement_norm: a.
        jacobian_norm: b.
        even: share of the weights that is made uniform: it keeps M invertible and lets weights grow again.
    """

    def __init__(
        self,
        nodes: Tensor,
        triangles: Tensor,
        cells: Sequence[float],
        displacement_norm: float,
        jacobian_norm: float,
        even: float = 0.03,
    ) -> None:
        self.cells, self.a, self.b = tuple(cells), displacement_norm, jacobian_norm
        d = len(self.cells)
        trace = triangles.diagonal(dim1=0, dim2=1).sum(-1)
        total = nodes.sum() + trace.sum()
        count = nodes.numel() + trace.numel()
        identity = torch.eye(d, dtype=nodes.dtype, device=nodes.device).reshape(d, d, *[1] * (triangles.ndim - 2)) / d
        self.nodes = (1 - even) * nodes / total + even / count
        self.triangles = (1 - even) * triangles / total + even / count * identity

    @classmethod
    def of(
        cls, splitting: Splitting, cells: Sequence[float], displacement_norm: float, jacobian_norm: float
    ) -> "Weights":
        """The multipliers of a linear step of one field."""
        p, q = ball(splitting.displacement), clip(splitting.gradient)
        y = float(splitting.displacement_penalty) * (splitting.displacement - p)[:, 0].double()
        length = displacement_norm / jacobian_norm
        w = float(splitting.gradient_penalty) / length * (splitting.gradient - q)[:, :, 0].double()
        return cls(y.norm(dim=0), _root(w), cells, displacement_norm, jacobian_norm)

    def factor(self) -> Tensor:
        """R of M = R R^T, the same for every component of the field, ``(L, L)`` lower triangular."""
        count = self.nodes.numel()
        metric = torch.diag(self.nodes.flatten() / self.a**2)
        starts, ends = _edges(tuple(self.nodes.shape), self.nodes.device)  # (j, simplices, L)
        sides = metric.new_tensor(self.cells)
        q = self.triangles.flatten(3) / (self.b**2 * sides[:, None, None, None] * sides[:, None, None])
        for rows, columns, sign in ((ends, ends, 1), (starts, starts, 1), (ends, starts, -1), (starts, ends, -1)):
            at = rows[:, None] * count + columns  # (j, k, simplices, L)
            metric.view(-1).index_add_(0, at.flatten(), sign * q.flatten())
        return torch.linalg.cholesky(metric)

    def moved(self, fields: Tensor, shares: Tensor, rate: float, even: float) -> "Weights":
        """Weights that count more where fields with <v, M v> = 1 break the constraints.

        Args:
            fields: v, ``(m, *lattice, d)``.
            shares: of the fields in the move, ``(m,)``, sum 1: of top eigenvectors, lest the second overtake the first.
            rate: eta in (0, 1).
            even: see the class.
        """
        components = fields.movedim(-1, 0)  # (d, m, *lattice)
        here = torch.einsum("m...,m->...", components.square().sum(0), shares) / self.a**2
        j = component_gradients(components, self.cells) / self.b  # (i, j, m, simplices, *lattice)
        root = _matrices_first(_root_of(_matrices_last(self.triangles)))
        turned = torch.einsum("ijm...,jk...->ikm...", j, root)
        own = torch.einsum("ijm...,ikm...,m->jk...", turned, turned, shares)  # Q^(1/2) J^T J Q^(1/2): trace tr(Q J^T J)
        nodes = self.nodes * (1 + rate * (here - 1))
        return Weights(nodes, (1 - rate) * self.triangles + rate * own, self.cells, self.a, self.b, even)


def _edges(lattice: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes at which the edge along axis j of a simplex starts and ends, ``(d, simplices, L)``."""
    node = torch.arange(math.prod(lattice), device=device).view(lattice)
    if len(lattice) == 1:
        edges = [(node, node.roll(-1))]
    else:
        right, below = node.roll(-1, -1), node.roll(-1, -2)
        opposite = below.roll(-1, -1)
        edges = [(node, right), (below, opposite), (right, opposite), (node, below)]  # as in ``component_gradients``
    starts, ends = (torch.stack(nodes).flatten(1) for nodes in zip(*edges, strict=True))
    d = len(lattice)
    return starts.view(d, d, -1), ends.view(d, d, -1)


def largest_eigenvalues(
    operator: Callable[[Tensor], Tensor], start: Tensor, steps: int, count: int
) -> tuple[Tensor, Tensor]:
    """The largest Ritz values of a symmetric operator after Lanczos' steps, and their unit vectors.

    Args:
        operator: on vectors ``(n,)``.
        start: ``(n,)``.
        steps: k, at least 1.
        count: m of them.

    Returns:
        Values ``(m,)``, the largest first, and vectors ``(m, n)``; fewer if the start's Krylov space is smaller.
    """
    basis, diagonal, beside = [start / start.norm()], [], []
    for _ in range(min(steps, len(start))):
        image = operator(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        rows = torch.stack(basis)
        for _ in range(2):  # twice is enough
            image = image - rows.T @ (rows @ image)
        size = float(image.norm())
        if size <= 1e-12 * max(map(abs, diagonal)):
            break
        beside.append(size)
        basis.append(image / size)
    found = len(diagonal)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if found > 1:
        off = torch.tensor(beside[: found - 1], dtype=torch.float64)
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    top = vectors.flip(1)[:, :count].to(start)
    return values.flip(0)[:count].to(start), top.T @ torch.stack(basis[:found])


def missed(steps: int, size: int, failure: float) -> float:
    """eps: what the Ritz value misses at most, as a share of the eigenvalue, except with the given probability.

    >>> round(missed(100, 2048, 1e-6), 4)
    0.0083
    """
    return (math.log(1.648 * math.sqrt(size) / failure) / (2 * steps - 1)) ** 2


def _root(w: Tensor) -> Tensor:
    """(W^T W)^(1/2), ``(d, d, ...)``."""
    return _matrices_first(_root_of(_matrices_last(torch.einsum("ij...,ik...->jk...", w, w))))


def _root_of(matrices: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp_min(0.0).sqrt()[..., None, :]) @ vectors.mT


def _matrices_last(matrices: Tensor) -> Tensor:
    return matrices.movedim((0, 1), (-2, -1))


def _matrices_first(matrices: Tensor) -> Tensor:
    return matrices.movedim((-2, -1), (0, 1))
