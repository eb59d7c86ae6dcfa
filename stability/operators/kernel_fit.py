"""Anchors by optimisation: the kernel of the projection as close as possible to kappa on pairs of points."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stability.kernels import Kernel
from stability.operators.kernel_map import inverse_root

RIDGE = 1e-6
"""Keeps the inverse root continuous while anchors move; the final map may have any."""
CLOSE = 0.3
"""Length of the step from a point to its partner in a close pair."""


def kernel_fit(
    points: Tensor, start: Tensor, kernel: Kernel, *, pairs: int, iterations: int, generator: torch.Generator
) -> Tensor:
    """Unit anchors that minimise mean_i (kappa(<x_i, y_i>) - <psi(x_i), psi(y_i)>)^2, by L-BFGS from a start.

    Args:
        points: ``(N, p)``, unit rows.
        start: ``(m, p)``, unit rows.
        kernel: kappa, with finite kappa'(1).
        pairs: how many pairs (x_i, y_i), half of them two points at random, a quarter a point with itself, a quarter a
            point and a near one.
        iterations: of L-BFGS.
        generator: source of randomness.

    Returns:
        ``(m, p)``, unit rows, no worse than the start.

    Raises:
        ValueError: if the kernel map is not Lipschitz: its kernel then has no gradient where points meet.
    """
    if not kernel.lipschitz < float("inf"):
        raise ValueError(f"kernel must have a finite derivative at 1 to be fitted, got {kernel!r}; use KMeans()")
    draw = torch.randint(len(points), (2, pairs), generator=generator, device=generator.device).to(points.device)
    x, y = points[draw[0]].double(), points[draw[1]].double()
    half, quarter = pairs // 2, pairs // 4
    y[half : half + quarter] = x[half : half + quarter]
    y[half + quarter :] = normalize(x[half + quarter :] + CLOSE * y[half + quarter :], dim=1)
    wanted = kernel((x * y).sum(1).clamp(-1.0, 1.0))
    z = start.double().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([z], max_iter=iterations, line_search_fn="strong_wolfe")

    def error() -> Tensor:
        units = normalize(z, dim=1)
        root = inverse_root(kernel, units, RIDGE)
        left, right = (kernel((part @ units.T).clamp(-1.0, 1.0)) @ root for part in (x, y))
        return (wanted - (left * right).sum(1)).square().mean()

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = error()
        value.backward()
        return value

    with torch.no_grad():
        before = float(error())
    with torch.enable_grad():
        optimiser.step(closure)
    with torch.no_grad():
        better = float(error()) < before
    return normalize(z.detach(), dim=1).to(start.dtype) if better else start
