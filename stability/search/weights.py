r"""A certified upper value of sup ||J tau|| over C(a, b) by quadratic majorants of the two balls.

For weights w_i >= 0 of the nodes and positive semidefinite Q_k, P_k of the triangles with sum w_i + sum tr Q_k +
sum tr P_k = 1, every field of C(a, b) has

    <tau, M tau> = sum_i w_i |tau_i|^2 / a^2 + sum_k (tr(Q_k J_k^T J_k) + tr(P_k J_k J_k^T)) / b^2 <= 1,

because J_k^T J_k <= b^2 I and J_k J_k^T <= b^2 I. Hence ||J tau||^2 <= lambda, the largest eigenvalue of J^T J relative
to M. The best weights are the multipliers of the relaxation (``lifted``), whose value is then lambda. On 2 x 2 matrices
no other quadratic forms that are at most ||J||_2^2 are needed: with the conformal part p and the anticonformal part r,
||J||_2 = |p| + |r|, and |p|^2 + |r|^2 + 2 <p, B r> with ||B||_2 <= 1 are these.

lambda comes from Lanczos' method with a random start. A Ritz value is below it; with probability 1 - delta

    lambda <= ritz_k / (1 - eps),    eps = (ln(1.648 n^(1/2) / delta) / (2 k - 1))^2    after k steps.

Reference: Kuczynski & Wozniakowski 1992, theorem 4.2 (Lanczos with a random start); Nesterov 1998 (the relaxation).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Weights:
    """w, Q and P of one image, sum w + sum tr Q + sum tr P = 1, and the metric M that belongs to them.

    Args:
        nodes: w, ``lattice``.
        right: Q, ``(d, d, simplices, *lattice)``.
        left: P, ``(d, d, simplices, *lattice)``.
        cells: sides of a cell.
        displacement_norm: a.
        jacobian_norm: b.
        even: share of the weights that is made uniform: it keeps M invertible.
    """

    def __init__(
        self,
        nodes: Tensor,
        right: Tensor,
        left: Tensor,
        cells: Sequence[float],
        displacement_norm: float,
        jacobian_norm: float,
        even: float,
    ) -> None:
        self.cells, self.a, self.b = tuple(cells), displacement_norm, jacobian_norm
        d, parts = len(self.cells), (nodes, right, left)
        total = sum(float(part.sum()) for part in (nodes, _trace(right), _trace(left)))
        count = nodes.numel() + 2 * d * right[0, 0].numel()
        identity = torch.eye(d, dtype=nodes.dtype, device=nodes.device).reshape(d, d, *[1] * (right.ndim - 2))
        uniform = (torch.ones_like(nodes), identity, identity)  # of trace 1 altogether, over the count
        self.nodes, self.right, self.left = (
            (1 - even) * part / total + even / count * same for part, same in zip(parts, uniform, strict=True)
        )

    def factor(self) -> Tensor:
        """R of M = R R^T for fields with components first, ``(d L, d L)`` lower triangular."""
        count, d = self.nodes.numel(), len(self.cells)
        starts, ends = _edges(tuple(self.nodes.shape), self.nodes.device)  # (j, simplices, L)
        sides = self.nodes.new_tensor(self.cells)
        right = self.right.flatten(3) / (self.b**2 * sides[:, None, None, None] * sides[:, None, None])
        along = torch.diag(sides**-2)[:, :, None, None] / self.b**2
        left = self.left.flatten(3)
        same = torch.diag(self.nodes.flatten() / self.a**2) + self._assembled(starts, ends, right)
        metric = self.nodes.new_zeros(d, count, d, count)
        for c in range(d):
            metric[c, :, c] += same  # w_i |tau_c|^2 / a^2 + <grad tau_c, Q grad tau_c> / b^2
            for other in range(d):  # P_{c c'} <grad tau_c, grad tau_c'> / b^2
                metric[c, :, other] += self._assembled(starts, ends, along * left[c, other])
        return torch.linalg.cholesky(metric.view(d * count, d * count))

    def _assembled(self, starts: Tensor, ends: Tensor, form: Tensor) -> Tensor:
        """sum over triangles of form_{jk} (u_end(j) - u_start(j)) (v_end(k) - v_start(k)), ``(L, L)``."""
        count = self.nodes.numel()
        found = form.new_zeros(count * count)
        for rows, columns, sign in ((ends, ends, 1), (starts, starts, 1), (ends, starts, -1), (starts, ends, -1)):
            at = rows[:, None] * count + columns  # (j, k, simplices, L)
            found.index_add_(0, at.flatten(), sign * form.flatten())
        return found.view(count, count)


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=0, dim2=1)


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


def largest_eigenvalue(operator: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> float:
    """The largest Ritz value of a symmetric operator after Lanczos' steps; its eigenvalue once they end.

    Args:
        operator: on vectors ``(n,)``.
        start: ``(n,)``.
        steps: k, at least 1.
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
    return float(torch.linalg.eigvalsh(matrix)[-1])


def missed(steps: int, size: int, failure: float) -> float:
    """eps: what the Ritz value misses at most, as a share of the eigenvalue, except with the given probability.

    >>> round(missed(100, 2048, 1e-6), 4)
    0.0083
    """
    return (math.log(1.648 * math.sqrt(size) / failure) / (2 * steps - 1)) ** 2
