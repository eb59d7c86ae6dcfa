r"""The Gaussian kernel as a sum of products, fitted on pairs of points: the layer of the first CKN.

    kappa(<x, y>) = exp(alpha (<x, y> - 1)) ~ sum_j eta_j g_j(x) g_j(y),    g_j(x) = exp(2 alpha (<w_j, x> - 1)),

which an integral over w of Gaussians makes exact in the limit: exp(-|x - y|^2 / 2 s^2) is proportional to the integral
of exp(-|x - w|^2 / s^2) exp(-|y - w|^2 / s^2), and on the sphere exp(-|x - w|^2 / s^2) is g(x) with alpha = 1 / s^2.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stability.kernels import Exponential


def gaussian_fit(
    points: Tensor, start: Tensor, alpha: float, *, pairs: int, iterations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """w_j and eta_j that minimise the mean of (kappa(<x, y>) - sum_j eta_j g_j(x) g_j(y))^2 over pairs, by L-BFGS.

    Args:
        points: ``(N, p)``, unit rows.
        start: w to begin with, ``(m, p)``, unit rows.
        alpha: of the kernel, > 0.
        pairs: how many, half of them two points at random, half a point with itself.
        iterations: of L-BFGS.
        generator: source of randomness.

    Returns:
        w ``(m, p)``, unit rows, and eta ``(m,)``, positive, in the dtype of the start; and the root mean square error
        on the pairs.

    Reference: Mairal, Koniusz, Harchaoui & Schmid 2014, section 3 (there w is not kept on the sphere).
    """
    kernel, sharp = Exponential(alpha), Exponential(2.0 * alpha)
    draw = torch.randint(len(points), (2, pairs), generator=generator, device=generator.device).to(points.device)
    x, y = points[draw[0]].double(), points[draw[1]].double()
    y[pairs // 2 :] = x[pairs // 2 :]
    wanted = kernel((x * y).sum(1).clamp(-1.0, 1.0))
    w = start.double().clone()
    with torch.no_grad():
        product = (sharp((x @ w.T).clamp(-1.0, 1.0)) * sharp((y @ w.T).clamp(-1.0, 1.0))).sum(1)
        scale = float((wanted * product).sum() / product.square().sum())  # of equal eta
    logarithm = torch.full((len(w),), math.log(scale), dtype=torch.float64, device=w.device).requires_grad_()
    w.requires_grad_()
    optimiser = torch.optim.LBFGS([w, logarithm], max_iter=iterations, line_search_fn="strong_wolfe")

    def error() -> Tensor:
        units = normalize(w, dim=1)
        left, right = (sharp((part @ units.T).clamp(-1.0, 1.0)) for part in (x, y))
        return (wanted - (left * right) @ logarithm.exp()).square().mean()

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = error()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(closure)
    with torch.no_grad():
        final = math.sqrt(float(error()))
        return normalize(w, dim=1).to(start.dtype), logarithm.exp().to(start.dtype), final
