r"""Fields that are linear on each triangle of a periodic lattice: gradients, values, exact suprema.

The torus of ``size`` is cut into cells with sides h = (h_x, h_y) pixels, h = size / lattice, so that node (r, c) of the
lattice lies at (c h_x, r h_y). For d = 2 the diagonal from node (r, c) to node (r + 1, c + 1) cuts each cell into two
triangles (the Freudenthal-Kuhn triangulation); for d = 1 the cells are intervals. On a simplex the field is linear, so

    sup |tau| = max over nodes of |v|   (|.| is convex),   sup f(grad tau) = max over simplices of f(J)   for every f:

both are finite maxima. All functions are differentiable and leave values on their device.

Convention: values v are ``(n, *lattice, d)``, lattice ``(rows, columns)`` or ``(N,)``, last axis (x, y); the first
triangle of a cell has the nodes (r, c), (r, c + 1), (r + 1, c + 1), the second one (r, c), (r + 1, c), (r + 1, c + 1);
J[i, j] = d tau_i / d u_j. All triangles have the same area: sums over triangles are integrals up to one factor.

Reference: Ciarlet 1978 (linear finite elements).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stability.deformations import lengths
from stability.deformations.lengths import Length


def gradients(values: Tensor, cells: Sequence[float]) -> Tensor:
    r"""J of each simplex: differences of the node values along its two edges that are parallel to the axes.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.

    Returns:
        Tensor ``(n, rows, columns, 2, 2, 2)`` with the triangle before [i, j], or ``(n, N, 1, 1, 1)``.

    Raises:
        ValueError: if the shapes do not fit.

    >>> gradients(torch.tensor([[[0.0], [1.0], [3.0]]]), (2.0,)).flatten()
    tensor([ 0.5000,  1.0000, -1.5000])
    """
    check_values(values, cells)
    return simplices_last(component_gradients(values.movedim(-1, 0), cells))


def gradients_adjoint(matrices: Tensor, cells: Sequence[float]) -> Tensor:
    r"""The adjoint G* of ``gradients``: sum_triangles <W, G v>_F = sum_nodes <G* W, v>; G* is minus a divergence.

    Args:
        matrices: W, ``(n, rows, columns, 2, 2, 2)`` or ``(n, N, 1, 1, 1)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.

    Returns:
        Tensor ``(n, *lattice, d)``.

    Raises:
        ValueError: if the shapes do not fit.
    """
    d = len(cells)
    if matrices.ndim != d + 4 or matrices.shape[-3:] != (d, d, d):
        raise ValueError(
            f"matrices must have shape (n, *lattice, {d}, {d}, {d}) for {d} cell sides, got {tuple(matrices.shape)}; "
            "use the shape of gradients(values, cells)"
        )
    components = matrices.movedim((-2, -1, 0, -3), (0, 1, 2, 3))
    return component_gradients_adjoint(components, cells).movedim(0, -1)


def interpolate(values: Tensor, cells: Sequence[float], points: Tensor) -> Tensor:
    r"""tau(u), linear on each simplex; differentiable in ``values`` and in ``points`` (there with ``gradient_at``).

    With the fractions (f_x, f_y) of u in its cell, tau = v_00 + max(f) (v_m - v_00) + min(f) (v_11 - v_m), where m is
    the third node of the triangle.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.
        points: ``(n, P, d)``, or ``(1, P, d)`` for the same points in each field, in pixels, taken modulo the torus.

    Returns:
        Tensor ``(n, P, d)`` in pixels.

    Raises:
        ValueError: if the shapes do not fit.

    >>> interpolate(torch.tensor([[[0.0], [1.0], [3.0]]]), (2.0,), torch.tensor([[[1.0], [5.0], [8.0]]])).flatten()
    tensor([0.5000, 1.5000, 1.0000])
    """
    nodes, fractions, first = _locate(values, cells, points)
    result = nodes[0]
    if len(cells) == 1:
        return result + fractions * (nodes[1] - nodes[0])
    # where, not max: on the diagonal the derivative belongs to the triangle that gradient_at takes
    larger = torch.where(first, fractions[..., 0], fractions[..., 1])[..., None]
    smaller = torch.where(first, fractions[..., 1], fractions[..., 0])[..., None]
    return result + larger * (nodes[1] - nodes[0]) + smaller * (nodes[2] - nodes[1])


def gradient_at(values: Tensor, cells: Sequence[float], points: Tensor) -> Tensor:
    r"""grad tau(u): J of the simplex that holds u.

    On the edge between two simplices, that of the cell with the larger index and, on a diagonal, its first triangle.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.
        points: ``(n, P, d)``, or ``(1, P, d)`` for the same points in each field, in pixels, taken modulo the torus.

    Returns:
        Tensor ``(n, P, d, d)``.

    Raises:
        ValueError: if the shapes do not fit.
    """
    nodes, _, first = _locate(values, cells, points)
    if len(cells) == 1:
        return (nodes[1] - nodes[0])[..., None] / cells[0]
    start, end = nodes[1] - nodes[0], nodes[2] - nodes[1]  # the first triangle goes along x, then along y
    along_x, along_y = torch.where(first[..., None], start, end), torch.where(first[..., None], end, start)
    return torch.stack([along_x / cells[0], along_y / cells[1]], -1)


def largest_displacement(values: Tensor) -> Tensor:
    """sup |tau| over the torus, exact: the largest |v| of a node.

    The derivative in ``values`` is that at one node where it is attained.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``.

    Returns:
        Tensor ``(n,)`` in pixels.
    """
    nodes = values.reshape(len(values), -1, values.shape[-1])
    return _largest(nodes, lengths.euclidean)


def spectral(components: Sequence[Tensor]) -> Tensor:
    """||J||_2 as ``lengths.spectral`` has it, with a derivative (one of the subgradients at a conformal matrix).

    Args:
        components: ``(J_11,)`` or ``(J_11, J_12, J_21, J_22)``, tensors of one shape.

    Returns:
        Tensor of that shape.
    """
    if len(components) == 1:
        return components[0].abs()
    a, b, c, d = components
    parts = torch.stack([torch.stack([a + d, a - d]), torch.stack([c - b, b + c])])
    return torch.linalg.vector_norm(parts, dim=0).sum(0) / 2


def largest_gradient(values: Tensor, cells: Sequence[float], length: Length = spectral) -> Tensor:
    """sup f(grad tau) over the torus, exact: the largest f(J) of a simplex.

    The derivative in ``values`` is that at one simplex where it is attained.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.
        length: f of the components ``(J_11,)`` or ``(J_11, J_12, J_21, J_22)``: the spectral norm by default,
            ``lengths.trace``, or any function of this kind.

    Returns:
        Tensor ``(n,)``, dimensionless.

    Raises:
        ValueError: if the shapes do not fit.
    """
    matrices = gradients(values, cells)
    return _largest(matrices.reshape(len(values), -1, len(cells) ** 2), length)


def saturation(
    values: Tensor,
    cells: Sequence[float],
    displacement_norm: float | Tensor,
    jacobian_norm: float | Tensor,
    *,
    share: float = 0.99,
) -> tuple[Tensor, Tensor]:
    """Where the constraints |tau| <= a and ||grad tau||_2 <= b bind: the part of the nodes and that of the simplices.

    Args:
        values: node values v in pixels, ``(n, *lattice, d)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.
        displacement_norm: a in pixels, broadcasts with ``(n,)``.
        jacobian_norm: b, dimensionless, broadcasts with ``(n,)``.
        share: binding means at least this share of a, or of b.

    Returns:
        Two tensors ``(n,)``: parts in [0, 1] of the nodes with |v| >= share a and of the simplices (thus of the torus'
        area) with ||J||_2 >= share b.

    Raises:
        ValueError: if the shapes do not fit.
    """
    check_values(values, cells)
    a, b = (
        torch.as_tensor(norm, dtype=values.dtype, device=values.device).reshape(-1, 1)
        for norm in (displacement_norm, jacobian_norm)
    )
    components = values.detach().movedim(-1, 0)
    length = lengths.euclidean(list(components)).flatten(1)
    norm = lengths.spectral(list(component_gradients(components, cells).flatten(0, 1))).flatten(1)
    return (length >= share * a).to(values.dtype).mean(1), (norm >= share * b).to(values.dtype).mean(1)


def component_gradients(components: Tensor, cells: Sequence[float]) -> Tensor:
    """``gradients`` with the components first: ``(d, n, *lattice)`` to ``(d, d, n, simplices, *lattice)``."""
    along_x = (components.roll(-1, -1) - components) / cells[0]
    if len(cells) == 1:
        return along_x[:, None, :, None]
    along_y = (components.roll(-1, -2) - components) / cells[1]
    # first triangle: the cell's top and right edges; second triangle: its bottom and left edges
    edges = torch.stack([along_x, along_x.roll(-1, -2), along_y.roll(-1, -1), along_y])
    return edges.unflatten(0, (2, 2)).movedim((0, 1), (1, 3))  # (j, triangle, i, n, ...) in memory


def component_gradients_adjoint(matrices: Tensor, cells: Sequence[float]) -> Tensor:
    """Adjoint of ``component_gradients``: ``(d, d, n, simplices, *lattice)`` to ``(d, n, *lattice)``."""
    if len(cells) == 1:
        x = matrices[:, 0, :, 0] / cells[0]
        return x.roll(1, -1) - x
    x = (matrices[:, 0, :, 0] + matrices[:, 0, :, 1].roll(1, -2)) / cells[0]
    y = (matrices[:, 1, :, 0].roll(1, -1) + matrices[:, 1, :, 1]) / cells[1]
    return (x.roll(1, -1) - x) + (y.roll(1, -2) - y)


def gram_symbol(lattice: Sequence[int], cells: Sequence[float], *, device: torch.device | None = None) -> Tensor:
    r"""Eigenvalues of G* G, G the gradient on all simplices, at the frequencies of ``torch.fft.rfftn``.

    d sum_j (2 - 2 cos(2 pi k_j / N_j)) / h_j^2, the five-point Laplacian: an edge parallel to an axis is an edge of d
    simplices, and no other edge enters J.

    Args:
        lattice: ``(rows, columns)`` or ``(N,)``.
        cells: sides (h_x, h_y) or (h_x,) of a cell in pixels.
        device: where the result is put.

    Returns:
        Tensor ``(rows, columns // 2 + 1)`` or ``(N // 2 + 1,)`` in 1 / pixel^2.

    >>> gram_symbol((4,), (1.0,)).round(decimals=6)
    tensor([0., 2., 4.], dtype=torch.float64)
    """
    d = len(lattice)
    result = torch.zeros((), dtype=torch.float64, device=device)
    for axis, (number, side) in enumerate(zip(lattice, reversed(cells), strict=True)):
        count = number if axis < d - 1 else number // 2 + 1
        k = torch.arange(count, dtype=torch.float64, device=device)
        value = d * (2 - 2 * torch.cos(2 * math.pi * k / number)) / side**2
        result = result[..., None] + value
    return result


def simplices_last(matrices: Tensor) -> Tensor:
    """``(d, d, n, simplices, *lattice)`` to ``(n, *lattice, simplices, d, d)``."""
    return matrices.movedim((0, 1, 2, 3), (-2, -1, 0, -3))


def check_values(values: Tensor, cells: Sequence[float], name: str = "values") -> None:
    """Nothing, if values are ``(n, *lattice, d)`` for d = len(cells) in {1, 2} and the sides are positive.

    Raises:
        ValueError: otherwise.
    """
    d = len(cells)
    if d not in (1, 2) or not all(side > 0 for side in cells):
        raise ValueError(
            f"cells must be one or two positive sides (h_x, h_y) in pixels, got {cells}; use size / lattice"
        )
    if values.ndim != d + 2 or values.shape[-1] != d or not values.is_floating_point():
        raise ValueError(
            f"{name} must be floating point with shape (n, *lattice, {d}) for {d} cell sides, got "
            f"{tuple(values.shape)} of {values.dtype}; put the batch first and the components (x, y) last"
        )


def _largest(components: Tensor, length: Length) -> Tensor:
    """max over positions of f of the components ``(n, positions, C)``, with the derivative at the largest one only."""
    with torch.no_grad():
        where = length(list(components.unbind(-1))).argmax(1)
    # the length is taken again at one position: elsewhere it may have no derivative (|v| at v = 0)
    return length(list(components[torch.arange(len(where), device=where.device), where].unbind(-1)))


def _locate(values: Tensor, cells: Sequence[float], points: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Values at the simplex's nodes, each ``(n, P, d)``, fractions in the cell, and if it is the first triangle."""
    check_values(values, cells)
    n, *lattice, d = values.shape
    if points.ndim != 3 or points.shape[-1] != d or points.shape[0] not in (1, n):
        raise ValueError(f"points must have shape ({n}, P, {d}) or (1, P, {d}) in pixels, got {tuple(points.shape)}")
    scaled = points / torch.tensor(cells, dtype=points.dtype, device=points.device)
    corner = scaled.detach().floor()
    fractions = scaled - corner
    column, row = corner[..., 0].long(), corner[..., -1].long()  # the same axis for d = 1
    first = fractions[..., 0] >= fractions[..., -1]
    if d == 1:
        indices = [column % lattice[0], (column + 1) % lattice[0]]
    else:
        middle = (row + (~first).long(), column + first.long())
        places = [(row, column), middle, (row + 1, column + 1)]
        indices = [(r % lattice[0]) * lattice[1] + c % lattice[1] for r, c in places]
    batch = torch.arange(n, device=values.device)[:, None]
    nodes = values.reshape(n, -1, d)
    return [nodes[batch, index] for index in indices], fractions, first
