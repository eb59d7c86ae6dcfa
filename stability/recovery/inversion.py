r"""``invert``: an image with nearly the same representation, by gradient descent on ||Phi(x^) - Phi(x)||^2."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.grid import check_images
from stability.recovery.decoder import relative
from stability.representations.base import Representation
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.module import ModuleRepresentation

START_NOISE = 0.1
"""Relative noise on the constant image where the descent starts: without it symmetric images would stay symmetric."""
HISTORY = 20
"""Pairs of steps and gradients that L-BFGS keeps."""


@dataclass(frozen=True, eq=False)
class Inversion:
    """What the descent found.

    Args:
        images: x^, ``(B, C, *size)``, float64.
        residual: ||Phi(x^) - Phi(x)|| / ||Phi(x)||, ``(B,)``; NaN where Phi(x) = 0, whose x^ is 0.
        evaluations: of the representation, ``(B,)``.
    """

    images: Tensor
    residual: Tensor
    evaluations: Tensor

    def errors(self, images: Tensor) -> Tensor:
        """||x^ - x|| / ||x||, ``(B,)``; NaN where x = 0."""
        return relative(self.images, images.detach().double())


def invert(
    representation: Representation,
    images: Tensor,
    *,
    steps: int = 200,
    start: Tensor | None = None,
    generator: torch.Generator,
) -> Inversion:
    r"""argmin ||Phi(x^) - Phi(x)||^2 by L-BFGS with a strong Wolfe line search, one image after the other.

    The problem is not convex: what is found is a local minimum. A small residual with a large error proves that Phi
    hardly tells the two images apart; a small error shows that it keeps the image; a large residual says nothing. The
    gradient of a random step layer is that of the patches' norms alone.

    Args:
        representation: any whose distance is differentiable in the image: finite or exact, or a module.
        images: ``(B, C, *size)``; only Phi(x) is used.
        steps: of L-BFGS at most, >= 1.
        start: ``(B, C, *size)``; None: the constant image with norm ||Phi(x)||, with noise of a tenth of it.
        generator: source of the noise.

    Raises:
        ValueError: for a representation whose gradient vanishes at the start, or a start that does not fit.

    Reference: Mahendran & Vedaldi 2015.

    >>> from stability.architecture import Architecture, Layer
    >>> from stability.images import load
    >>> from stability.representations.gram import GramCKN
    >>> x = load("blobs", count=1, size=(8, 8))
    >>> phi = GramCKN(Architecture((Layer(2, 0.5),), antialiasing=None))
    >>> found = invert(phi, x, steps=30, generator=torch.Generator().manual_seed(0))
    >>> bool(found.errors(x) < 0.05)
    True
    """
    check_images(images)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be an integer >= 1, got {steps!r}; use for example 200")
    if start is not None and start.shape != images.shape:
        raise ValueError(f"start must have the shape of the images {tuple(images.shape)}, got {tuple(start.shape)}")
    images = images.detach().double()
    norms = representation.norm(images).detach()
    found, residuals, evaluations = [], [], []
    for i, image in enumerate(images):
        noise = torch.randn(image.shape, generator=generator, device=generator.device, dtype=torch.float64)
        norm = float(norms[i])
        if norm == 0.0:
            found.append(torch.zeros_like(image))
            residuals.append(math.nan)
            evaluations.append(0)
            continue
        if start is None:
            first = norm / math.sqrt(image.numel()) * (1.0 + START_NOISE * noise.to(image))
        else:
            first = start[i].detach().double()
        squared = _squared_distance(representation, image[None], norm)
        one, count = _descend(squared, first, steps, representation)
        found.append(one)
        evaluations.append(count)
        with torch.no_grad():
            residuals.append(math.sqrt(max(float(squared(one[None])), 0.0)))
    device = images.device
    return Inversion(
        torch.stack(found),
        torch.tensor(residuals, dtype=torch.float64, device=device),
        torch.tensor(evaluations, device=device),
    )


def _squared_distance(representation: Representation, image: Tensor, norm: float) -> Callable[[Tensor], Tensor]:
    """x^ -> ||Phi(x^) - Phi(x)||^2 / ||Phi(x)||^2, differentiable, for one image ``(1, C, *size)``."""
    if isinstance(representation, ExplicitRepresentation | ModuleRepresentation):

        def encoded(images: Tensor) -> Tensor:
            if isinstance(representation, ExplicitRepresentation):
                return representation(representation.entered(images)).double()
            return torch.as_tensor(representation(images.to(representation.dtype))).double()

        with torch.no_grad():
            target = encoded(image)
        area = representation.cell_area(tuple(image.shape[2:]), target)

        def squared(candidate: Tensor) -> Tensor:
            return (encoded(candidate) - target).square().sum() * (area / norm**2)

        return squared
    reference = representation.reference(image)
    return lambda candidate: reference.distance(candidate).sum().square() / norm**2


def _descend(
    squared: Callable[[Tensor], Tensor], start: Tensor, steps: int, representation: Representation
) -> tuple[Tensor, int]:
    """The image with the least value that was met, and how often the function was evaluated."""
    point = start[None].clone().requires_grad_()
    best, least, count = start, math.inf, 0
    optimiser = torch.optim.LBFGS(
        [point],
        max_iter=steps,
        max_eval=3 * steps,
        history_size=HISTORY,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        nonlocal best, least, count
        count += 1
        optimiser.zero_grad()
        value = squared(point)
        if value.requires_grad:
            value.backward()
        if count == 1 and (point.grad is None or not bool(point.grad.abs().max() > 0)):
            raise ValueError(
                f"representation must have gradients at the start, got none from {type(representation).__name__}; give "
                "another start"
            )
        if (found := float(value.detach())) < least:  # NaN is not
            best, least = point.detach()[0].clone(), found
        return value

    optimiser.step(closure)
    return best, count
