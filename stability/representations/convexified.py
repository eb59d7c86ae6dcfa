r"""``ConvexifiedCNN``: a network of one layer whose filters are the solution of a convex problem."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from stability.architecture import Architecture
from stability.grid import check_images
from stability.operators.nuclear_norm import project_nuclear_norm
from stability.representations.explicit import BATCH, ExplicitRepresentation
from stability.representations.stages import ExplicitStages

RANK_TOLERANCE = 1e-9
"""Singular values below this share of the largest one count as zero."""
TOLERANCE = 1e-3
"""Optimality gap, in units of the loss, at which the descent stops."""


class ConvexifiedCNN(ExplicitRepresentation):
    r"""Phi(x) = U^T Z(x), Z(x) the features of a layer, U singular vectors of the best matrix of small nuclear norm.

    A network of one layer with r filters in the layer's Hilbert space and one weight per filter, position and class has
    the scores f_c(x) = sum_p <Z_p(x), A_cp> with a matrix A = (A_cp) ``(m, classes positions)`` of rank r. Zhang, Liang
    & Wainwright replace the rank by the nuclear norm: minimise the mean logistic loss over ||A||_* <= R, a convex
    problem, solved by projected gradient. The filters are the singular vectors of A, orthonormal, so that the layer has
    the base's Lipschitz constants: ladders and sweeps take them as they are.

    ``gap`` bounds how far the loss is above its minimum: loss - minimum <= <G, A> + R ||G||_2 for the gradient G, by
    convexity (a proof, evaluated in the base's dtype).

    Args:
        base: a network of one layer, ``CKN`` or ``RandomFeatures``.
        matrix: A, ``(classes, m, *size')``; use ``fit``.
        classes: labels of the scores, ``(classes,)``.
        loss: mean logistic loss on the training images.
        gap: the bound above.

    Reference: Zhang, Liang & Wainwright 2017 (Convexified convolutional neural networks).

    >>> import stability as st
    >>> data, x = st.images.dataset("fashion"), st.images.load("fashion", count=40, size=(16, 16))
    >>> phi = st.RandomFeatures.draw(Architecture.dyadic(depth=1), (32,), generator=torch.Generator().manual_seed(0))
    >>> net = ConvexifiedCNN.fit(phi, x[:30], data.labels[:30], radius=1.0)
    >>> net(x[30:]).shape[0], net.scores(x[30:]).shape, net.gap < 1e-2
    (10, torch.Size([10, 10]), True)
    """

    architecture: Architecture

    def __init__(
        self,
        base: ExplicitRepresentation,
        matrix: Tensor,
        classes: Tensor,
        *,
        loss: float = math.nan,
        gap: float = math.nan,
    ) -> None:
        super().__init__()
        self.architecture = _one_layer(base)
        if matrix.ndim < 3 or classes.shape != matrix.shape[:1] or not bool(torch.isfinite(matrix).all()):
            raise ValueError(f"matrix must be finite, ({len(classes)}, m, *size'), got {tuple(matrix.shape)}; use fit")
        self.base, self.loss, self.gap, self.keeps_norms = base, loss, gap, base.keeps_norms
        self.register_buffer("matrix", matrix.detach().clone())
        self.register_buffer("classes", classes.detach().clone())
        left, values, _ = torch.linalg.svd(_unfolded(matrix.detach()), full_matrices=False)
        tolerance = max(RANK_TOLERANCE, max(left.shape) * torch.finfo(values.dtype).eps)
        kept = max(1, int((values > tolerance * values[0]).sum()))
        self.register_buffer("filters", left[:, :kept].contiguous())

    @classmethod
    def fit(
        cls, base: ExplicitRepresentation, images: Tensor, labels: Tensor, *, radius: float, steps: int = 300
    ) -> "ConvexifiedCNN":
        """Accelerated projected gradient from A = 0, until the gap is a thousandth of the loss.

        Args:
            base: a network of one layer, which stays as it is.
            images: ``(n, C, *size)``.
            labels: ``(n,)``, integers, at least two different ones.
            radius: R > 0, in the inverse unit of the images.
            steps: at most so many, >= 1.

        Raises:
            ValueError: for a base of several layers, labels that do not fit, or a radius that is not positive.
        """
        _one_layer(base)
        if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius < math.inf:
            raise ValueError(f"radius must be positive and finite, got {radius!r}; use for example 1.0")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps must be an integer >= 1, got {steps!r}; use for example 300")
        if labels.shape != (len(check_images(images)),) or labels.is_floating_point() or len(labels.unique()) < 2:
            raise ValueError(
                f"labels must be {len(images)} integers of two classes or more, got {tuple(labels.shape)}; check them"
            )
        classes, indices = labels.unique(return_inverse=True)
        with torch.no_grad():
            maps = torch.cat([base(base.entered(part)) for part in images.split(BATCH)])  # (n, m, *size')
            features = maps.flatten(1)
            chosen = nn.functional.one_hot(indices, len(classes)).to(features)
            shape = (len(classes), *maps.shape[1:])
            # the softmax has a Hessian of norm at most 1/2
            curvature = 0.5 * float(torch.linalg.matrix_norm(features, ord=2)) ** 2 / len(features)

            def loss_and_gradient(point: Tensor) -> tuple[float, Tensor]:
                logs = nn.functional.log_softmax(features @ point.flatten(1).T, dim=1)
                gradient = (logs.exp() - chosen).T @ features / len(features)
                return float(-(logs * chosen).sum()) / len(features), gradient.view(shape)

            best, loss, gap = _minimise(loss_and_gradient, features.new_zeros(shape), curvature, float(radius), steps)
        return cls(base, best, classes, loss=loss, gap=gap)

    @property
    def dtype(self) -> torch.dtype:
        """That of the base."""
        return self.base.dtype

    @property
    def lipschitz(self) -> tuple[float, ...] | None:
        """Those of the base: U^T does not expand."""
        return self.base.lipschitz

    @property
    def nuclear_norm(self) -> float:
        """||A||_*."""
        return float(torch.linalg.svdvals(_unfolded(self.get_buffer("matrix"))).sum())

    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """That of the base."""
        return self.base.cell_area(size, features)

    def refined(self, factor: int) -> "ConvexifiedCNN":
        """The same filters on grids ``factor`` times as fine; scores stay those of the unrefined grid."""
        base, matrix, classes = self.base.refined(factor), self.get_buffer("matrix"), self.get_buffer("classes")
        assert isinstance(base, ExplicitRepresentation)
        return ConvexifiedCNN(base, matrix, classes, loss=self.loss, gap=self.gap)

    def stages(self, image: Tensor) -> ExplicitStages:
        """z_0 and z_1 = U^T psi(P A_0 F x) of one image, in float64."""
        inner = self.base.stages(image)
        assert isinstance(inner, ExplicitStages)  # every finite network has them
        filters = self.get_buffer("filters").double()
        layer_map = partial(_filtered, filters, inner.layer_maps[0])
        return ExplicitStages(self.architecture, inner.refinement, image, [layer_map])

    def forward(self, images: Tensor) -> Tensor:
        """U^T Z(x), ``(B, r, *size')`` for images ``(B, C, *size)``."""
        features = self.base(images)
        return torch.einsum("mr,bm...->br...", self.get_buffer("filters"), features)

    def scores(self, images: Tensor) -> Tensor:
        """f_c(x), ``(B, classes)``.

        Raises:
            ValueError: for images of another size than those it was fitted on.
        """
        matrix = self.get_buffer("matrix")
        features = torch.cat([self.base(self.base.entered(part)) for part in check_images(images).split(BATCH)])
        if features.shape[1:] != matrix.shape[1:]:
            raise ValueError(
                f"images must give features {tuple(matrix.shape[1:])} as in training, got {tuple(features.shape[1:])}; "
                "give images of the same size"
            )
        return features.flatten(1) @ matrix.flatten(1).T

    def labels(self, images: Tensor) -> Tensor:
        """The class with the largest score, ``(B,)``."""
        return self.get_buffer("classes")[self.scores(images).argmax(dim=1)]

    def score_norms(self, size: tuple[int, ...]) -> Tensor:
        """N_c with |f_c(x) - f_c(y)| <= N_c ||Phi(x) - Phi(y)|| by Cauchy-Schwarz, ``(classes,)``, float64.

        Args:
            size: of the images, which gives the cell area that the distance carries.
        """
        matrix = self.get_buffer("matrix")
        return matrix.double().flatten(1).norm(dim=1) / math.sqrt(self.cell_area(size, matrix))


def _minimise(
    loss_and_gradient: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    curvature: float,
    radius: float,
    steps: int,
) -> tuple[Tensor, float, float]:
    """The point with the least loss + gap, its loss and gap; Nesterov's momentum, begun anew where the loss rises."""
    point, ahead, momentum = start, start, 1.0
    loss, gradient = loss_and_gradient(start)
    best = (start, loss, _gap(gradient, start, radius))
    for _ in range(steps):
        if best[2] <= TOLERANCE * best[1] or curvature == 0.0:
            break
        _, slope = loss_and_gradient(ahead)
        moved = _folded(project_nuclear_norm(_unfolded(ahead - slope / curvature), radius), start)
        value, gradient = loss_and_gradient(moved)
        if value > loss:  # momentum overshot: a plain step from where we are cannot raise the loss
            moved = _folded(
                project_nuclear_norm(_unfolded(point - loss_and_gradient(point)[1] / curvature), radius), start
            )
            (value, gradient), momentum = loss_and_gradient(moved), 1.0
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / following * (moved - point)
        point, loss, momentum = moved, value, following
        gap = _gap(gradient, moved, radius)
        if value + gap < best[1] + best[2]:
            best = (moved, value, gap)
    return best


def _gap(gradient: Tensor, point: Tensor, radius: float) -> float:
    """<G, A> + R ||G||_2 = the largest <G, A - B> over the ball."""
    operator = float(torch.linalg.matrix_norm(_unfolded(gradient), ord=2))
    return max(0.0, float((gradient * point).sum()) + radius * operator)


def _unfolded(matrix: Tensor) -> Tensor:
    """``(classes, m, *size')`` as ``(m, classes positions)``."""
    return matrix.flatten(2).movedim(0, 1).flatten(1)


def _folded(unfolded: Tensor, like: Tensor) -> Tensor:
    return unfolded.unflatten(1, (len(like), -1)).movedim(1, 0).reshape(like.shape)


def _filtered(filters: Tensor, layer_map: Callable[[Tensor], Tensor], patches: Tensor) -> Tensor:
    """U^T psi of patches ``(p, N)``."""
    return filters.T @ layer_map(patches)


def _one_layer(base: ExplicitRepresentation) -> Architecture:
    architecture = base.architecture if isinstance(base, ExplicitRepresentation) else None
    if architecture is None or architecture.depth != 1:
        depth = type(base).__name__ if architecture is None else f"{architecture.depth} layers"
        raise ValueError(f"base must be a finite network of one layer, got {depth}; use CKN.fit or RandomFeatures.draw")
    return architecture
