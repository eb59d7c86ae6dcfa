"""Second routes: slow, literal transcriptions of the definitions, sharing no code with the package."""

import itertools
import math

import torch
from scipy.special import wofz
from torch import Tensor
from torch.nn.functional import pad

from stability import kernels
from stability.architecture import Architecture
from stability.boundaries import Periodic

KERNELS = [
    kernels.Exponential(),
    kernels.Exponential(2.37),
    kernels.InversePolynomial(),
    kernels.Polynomial(2, 1.0),
    kernels.ArcCosine(1),
    kernels.ArcCosine(0),
    kernels.Linear(),
]
LIPSCHITZ = [kernel for kernel in KERNELS if math.isfinite(kernel.lipschitz)]


def circulant(n: int, sigma: float) -> Tensor:
    """Dense A_sigma on n points of a torus, from its definition by the discrete Fourier transform."""
    omega = 2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64)
    transform = torch.fft.fft(torch.eye(n, dtype=torch.float64), dim=0)
    return torch.fft.ifft(transform * torch.exp(-0.5 * (sigma * omega) ** 2)[:, None], dim=0).real


def toeplitz(n: int, sigma: float) -> Tensor:
    """Dense 1 A_sigma 1 on n points of the line."""
    if sigma == 0:
        return torch.eye(n, dtype=torch.float64)
    half = line_taps(n, sigma)
    return torch.tensor([[half[abs(i - j)] for j in range(n)] for i in range(n)], dtype=torch.float64)


def line_taps(n: int, sigma: float) -> list[float]:
    """h(j) = exp(-j^2 / (2 sigma^2)) Re erf(z) / (sigma sqrt(2 pi)), z = (sigma pi + i j / sigma) / sqrt(2).

    The integral of the symbol over |w| <= pi; erf(z) = 1 - exp(-z^2) w(i z), w the Faddeeva function, never overflows.
    """
    edge = math.exp(-((sigma * math.pi) ** 2) / 2)
    tails = [wofz(1j * (sigma * math.pi + 1j * j / sigma) / math.sqrt(2)).real for j in range(n)]
    values = [math.exp(-((j / sigma) ** 2) / 2) - (-1) ** j * edge * tail for j, tail in enumerate(tails)]
    return [float(value) / (sigma * math.sqrt(2 * math.pi)) for value in values]


def pooling(sigma: float, size: tuple[int, ...], periodic: bool = True) -> Tensor:
    """Dense A_sigma on all positions, the Kronecker product of its axes."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    for n in size:
        matrix = torch.kron(matrix, circulant(n, sigma) if periodic else toeplitz(n, sigma))
    return matrix


def offsets(patch_size: int, d: int) -> list[tuple[int, ...]]:
    """Patch positions: centred for odd sides, -(e/2 - 1) ... e/2 for even ones."""
    start = -(patch_size - 1) // 2 if patch_size % 2 else -(patch_size // 2 - 1)
    return list(itertools.product(range(start, start + patch_size), repeat=d))


def shifts(size: tuple[int, ...], patch_size: int, periodic: bool = True) -> list[list[int]]:
    """For every patch offset c, the index of u + c for every position u; the number of positions for one outside."""
    positions = list(itertools.product(*map(range, size)))
    index = {u: i for i, u in enumerate(positions)}
    if not periodic:
        moved = [
            [tuple(a + b for a, b in zip(u, c, strict=True)) for u in positions] for c in offsets(patch_size, len(size))
        ]
        return [[index.get(u, len(positions)) for u in row] for row in moved]
    return [
        [index[tuple((a + b) % n for a, b, n in zip(u, c, size, strict=True))] for u in positions]
        for c in offsets(patch_size, len(size))
    ]


def patch_mean(gram: Tensor, index: list[list[int]]) -> Tensor:
    """The mean of G(u + c, v + c) over the patch, G = 0 outside."""
    gram = pad(gram, (0, 1, 0, 1))
    return sum(gram[i][:, i] for i in index) / len(index)


def layer_gram(gram: dict[str, Tensor], architecture: Architecture, k: int, size: tuple[int, ...]) -> dict[str, Tensor]:
    """Gram matrices of z_k = M_k P_k y from those of y, for the pairs xx, xy, yy."""
    layer = architecture.layers[k]
    index = shifts(size, layer.patch_size, isinstance(architecture.boundary, Periodic))
    patches = {pair: patch_mean(g, index) for pair, g in gram.items()}
    norms = {name: patches[name * 2].diagonal().clamp_min(0).sqrt() for name in "xy"}
    out = {}
    for pair, g in patches.items():
        a, b = norms[pair[0]], norms[pair[1]]
        cosine = torch.where(a[:, None] * b > 0, g / (a[:, None] * b).clamp_min(1e-300), 0.0).clamp(-1, 1)
        if pair[0] == pair[1]:
            cosine.fill_diagonal_(1.0)
        out[pair] = a[:, None] * b * layer.kernel(cosine)
    return out


def tangent_kernel(architecture: Architecture, x: Tensor, y: Tensor, slope) -> dict[str, float]:
    """The NTK of three pairs: Theta_k = Sigma_k + kappa'(cos) P(pooled Theta_{k-1}); ``slope``: kappa'."""
    full = size = tuple(x.shape[1:])
    sigma, spacing, periodic = first_gram(architecture, x, y), 1, isinstance(architecture.boundary, Periodic)
    theta = sigma
    for k, layer in enumerate(architecture.layers):
        index = shifts(size, layer.patch_size, periodic)
        inner = {pair: patch_mean(g, index) for pair, g in sigma.items()}
        below = {pair: patch_mean(g, index) for pair, g in theta.items()}
        norms = {name: inner[name * 2].diagonal().clamp_min(0).sqrt() for name in "xy"}
        sigma = layer_gram(sigma, architecture, k, size)
        theta = {}
        for pair, g in inner.items():
            cosine = (g / (norms[pair[0]][:, None] * norms[pair[1]])).clamp(-1, 1)
            if pair[0] == pair[1]:
                cosine.fill_diagonal_(1.0)
            theta[pair] = sigma[pair] + slope(cosine) * below[pair]
        keep = [
            i for i, u in enumerate(itertools.product(*map(range, size))) if all(c % layer.subsampling == 0 for c in u)
        ]
        a = pooling(layer.pooling_scale / spacing, size, periodic)[keep]
        sigma, theta = ({pair: a @ g @ a.T for pair, g in grams.items()} for grams in (sigma, theta))
        size = tuple(math.ceil(n / layer.subsampling) for n in size)
        spacing *= layer.subsampling
    area = math.prod(full) / math.prod(size)
    return {pair: float(g.trace()) * area for pair, g in theta.items()}


def first_gram(architecture: Architecture, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Gram matrices of A_0 F x over all pairs of positions; x, y ``(C, *size)``."""
    size = tuple(x.shape[1:])
    if architecture.front_end is not None:
        x, y = (z - z.mean(tuple(range(1, z.ndim)), keepdim=True) for z in (x, y))
    a = pooling(architecture.antialiasing or 0.0, size, isinstance(architecture.boundary, Periodic))
    x, y = x.flatten(1) @ a.T, y.flatten(1) @ a.T
    return {"xx": x.T @ x, "xy": x.T @ y, "yy": y.T @ y}


def near_rows(size: tuple[int, ...], radius: int) -> Tensor:
    """1 for pairs of positions of a torus at most ``radius`` apart along the first axis, 0 for others, ``(N, N)``."""
    rows = [u[0] for u in itertools.product(*map(range, size))]
    return torch.tensor([[float(min((a - b) % size[0], (b - a) % size[0]) <= radius) for b in rows] for a in rows])


def brute_force(
    architecture: Architecture, x: Tensor, y: Tensor, radii: tuple[int, ...] | None = None
) -> dict[str, float]:
    """K(x, x), K(x, y), K(y, y) by dense matrices over all pairs of positions; x, y ``(C, *size)``.

    With radii the layers' poolings keep only taps within so many pixels along the first axis.
    """
    full = size = tuple(x.shape[1:])
    gram, spacing = first_gram(architecture, x, y), 1
    for k, layer in enumerate(architecture.layers):
        gram = layer_gram(gram, architecture, k, size)
        keep = [
            i for i, u in enumerate(itertools.product(*map(range, size))) if all(c % layer.subsampling == 0 for c in u)
        ]
        a = pooling(layer.pooling_scale / spacing, size, isinstance(architecture.boundary, Periodic))[keep]
        a = a if radii is None else a * near_rows(size, radii[k])[keep]
        gram = {pair: a @ g @ a.T for pair, g in gram.items()}
        size = tuple(math.ceil(n / layer.subsampling) for n in size)
        spacing *= layer.subsampling
    area = math.prod(full) / math.prod(size)
    return {pair: float(g.trace()) * area for pair, g in gram.items()}
