r"""``Predictor``: f_c(x) = sum_i a_ic K(x_i, x) + b_c, its norm in the Hilbert space, and how much it can change.

By Cauchy-Schwarz |f(x) - f(y)| = |<f, Phi(x) - Phi(y)>| <= ||f||_H ||Phi(x) - Phi(y)||: whatever bounds the distance
between representations bounds the change of a prediction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.bounds.rung import Status
from stability.grid import check_images
from stability.representations.base import KernelRepresentation
from stability.representations.matrix import kernel_matrix
from stability.rkhs.methods import Method
from stability.rkhs.sphere import largest_chord, normalise, safe_distance
from stability.rkhs.validation import check_labels, one_against_rest

KERNEL_ERROR = 100.0
"""In units of eps ||Phi(x)|| ||Phi(y)||: round-off of an entry of a kernel matrix, at most."""


MATRIX_ERROR = 1e-3
"""Relative: by how much a given matrix may miss K(x_1, x_1), and be asymmetric (single precision is far better)."""


@dataclass(frozen=True)
class PredictionBound:
    """|f_c(x) - f_c(y)| <= value.

    Args:
        value: ``(..., C)``.
        status: of the bound: the weaker one of this inequality (a proof) and of the distance that went into it.
    """

    value: Tensor
    status: Status


class Predictor:
    """f_c(x) = sum_i a_ic K(x_i, x) + b_c, one function of the reproducing kernel Hilbert space per class.

    Args:
        representation: whose kernel it is.
        images: x_i, ``(n, C, *size)``.
        coefficients: a, ``(n, classes)``, or ``(n,)`` for one function.
        intercepts: b, ``(classes,)``; None: zero.
        classes: labels of the functions, ``(classes,)`` integers; None: 0, 1, ...
        normalised: K(x, y) / sqrt(K(x, x) K(y, y)) instead of K: the features are the directions of Phi.
        matrix: ``st.kernel_matrix(representation, images)`` (not normalised) if it is there; None: computed.

    Raises:
        ValueError: for shapes that do not fit.

    >>> from stability.architecture import Architecture
    >>> from stability.representations.gram import GramCKN
    >>> x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> gram = GramCKN(Architecture.dyadic(depth=1))
    >>> f = Predictor(gram, x, torch.tensor([1.0, 0.0, 0.0]))  # f = K(x_1, .), whose norm is ||Phi(x_1)||
    >>> torch.allclose(f.norms, gram.norm(x[:1])), torch.allclose(f(x[:1]), gram.norm(x[:1]) ** 2)
    (True, True)
    """

    def __init__(
        self,
        representation: KernelRepresentation,
        images: Tensor,
        coefficients: Tensor,
        *,
        intercepts: Tensor | None = None,
        classes: Tensor | None = None,
        normalised: bool = False,
        matrix: Tensor | None = None,
    ) -> None:
        a = coefficients.detach().to(images.device, torch.float64)
        a = a[:, None] if a.ndim == 1 else a
        if a.ndim != 2 or len(a) != len(check_images(images)) or not torch.isfinite(a).all():
            raise ValueError(
                f"coefficients must be finite, one row per image ({len(images)}, classes), got "
                f"{tuple(coefficients.shape)}; one image is one function K(x_i, .)"
            )
        count = a.shape[1]
        b = a.new_zeros(count) if intercepts is None else intercepts.to(a)
        classes = torch.arange(count, device=a.device) if classes is None else classes.to(a.device)
        for name, given in (("intercepts", b), ("classes", classes)):
            if given.shape != (count,):
                raise ValueError(f"{name} must have shape ({count},), got {tuple(given.shape)}; one per function")
        gram = _gram(representation, images, matrix)
        self.representation, self.images, self.classes, self.normalised = representation, images, classes, normalised
        self.coefficients, self.intercepts = a, b
        self._error = KERNEL_ERROR * torch.finfo(gram.dtype).eps + len(a) * torch.finfo(torch.float64).eps
        gram = gram.to(torch.float64)
        self.norms_of_images = gram.diagonal().clamp_min(0.0).sqrt()
        self._gram = normalise(gram, self.norms_of_images, self.norms_of_images) if normalised else gram

    @classmethod
    def fit(
        cls,
        representation: KernelRepresentation,
        images: Tensor,
        labels: Tensor,
        method: Method,
        *,
        normalised: bool = True,
        matrix: Tensor | None = None,
    ) -> "Predictor":
        """One class against the rest, targets +1 and -1.

        Args:
            representation: whose kernel it is.
            images: ``(n, C, *size)``.
            labels: ``(n,)``, integers, at least two different ones.
            method: ``KernelRidge(penalty)`` or ``SupportVectorMachine(cost)``.
            normalised: whether features are divided by their norms: penalties then need no unit.
            matrix: ``st.kernel_matrix(representation, images)`` (not normalised) if it is there; None: computed.

        Raises:
            ValueError: for shapes that do not fit.
            ImportError: if scikit-learn is not installed.
        """
        gram = _gram(representation, images, matrix)
        classes, indices = check_labels(gram, labels)
        used = gram.to(torch.float64)
        if normalised:
            norms = used.diagonal().clamp_min(0.0).sqrt()
            used = normalise(used, norms, norms)
        targets = one_against_rest(indices, torch.arange(len(classes), device=indices.device))
        coefficients, intercepts = method.solve(used, targets)
        return cls(
            representation, images, coefficients,
            intercepts=intercepts, classes=classes, normalised=normalised, matrix=gram,
        )  # fmt: skip

    def __call__(self, images: Tensor, *, cross: Tensor | None = None) -> Tensor:
        """f_c(x), ``(B, classes)``, float64.

        Args:
            images: ``(B, C, *size)``.
            cross: ``st.kernel_matrix(representation, images, predictor.images)`` if it is there; None: computed.
        """
        if images.shape[1:] != self.images.shape[1:]:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, self.images.shape[1:]))}) like those of the fit, got "
                f"{tuple(images.shape)}; bring them to that size"
            )
        cross = kernel_matrix(self.representation, images, self.images) if cross is None else cross
        if cross.shape != (len(images), len(self.images)):
            raise ValueError(
                f"cross must be ({len(images)}, {len(self.images)}), got {tuple(cross.shape)}; K(x_i, y_j) has the new "
                "images along its rows"
            )
        cross = cross.to(self.coefficients)
        if self.normalised:
            cross = normalise(cross, self.representation.norm(images), self.norms_of_images)
        return cross @ self.coefficients + self.intercepts

    def labels(self, values: Tensor) -> Tensor:
        """The class with the largest f_c, ``(B,)``, of values ``(B, classes)``."""
        return self.classes[values.argmax(dim=1)]

    def margins(self, values: Tensor, labels: Tensor | None = None) -> Tensor:
        """f_c(x) - max_(c' != c) f_c'(x), ``(B,)``: positive where the prediction is c.

        Args:
            values: f(x), ``(B, classes)``.
            labels: c, ``(B,)``; None: the predicted classes.
        """
        own = self._own(values, labels)
        return values.gather(1, own[:, None])[:, 0] - values.scatter(1, own[:, None], -torch.inf).amax(1)

    @property
    def norms(self) -> Tensor:
        """||f_c||_H = sqrt(a_c^T K a_c), ``(classes,)``, rounded up; intercepts are constants and do not count."""
        return self._norm_of(self.coefficients)

    def prediction_change_bound(
        self,
        distance: Tensor,
        *,
        norm: Tensor | None = None,
        floor: Tensor | None = None,
        status: Status = Status.PROOF,
    ) -> PredictionBound:
        """|f_c(x) - f_c(y)| <= ||f_c||_H ||Phi(x) - Phi(y)|| for every y.

        With the normalised kernel ||Phi(x) - Phi(y)|| <= d is first turned into the largest distance between the
        directions, 2 sin(arcsin(d / ||Phi(x)||) / 2). A distance that was measured may be 0 by round-off: the floor is
        added in quadrature.

        Args:
            distance: ||Phi(x) - Phi(y)|| or a bound on it, ``(...)``, >= 0. With one that was measured give the norm or
                the floor, too.
            norm: ||Phi(x)||, broadcasting with the distance; needed for the normalised kernel.
            floor: what round-off may hide of the distance, ``reference(x).floor``, likewise; None: the least there is,
                ``representation.relative_floor`` times the norm (without one, the largest of the predictor's images).
            status: of the distance: "proof" if it is certified or measured.

        Returns:
            value ``(..., classes)``; its status is that of the distance at best.

        Raises:
            ValueError: for a negative distance, or a normalised kernel without ``norm``.

        Reference: Cauchy-Schwarz; Bietti & Mairal 2019, section 4.
        """
        device = self.coefficients.device
        distance = torch.as_tensor(distance, dtype=torch.float64, device=device)
        if not (distance >= 0).all():
            raise ValueError("distance must be >= 0, got a negative one or NaN; use representation.distance(x, y)")
        size = self.norms_of_images.amax() if norm is None else self._needed(norm)
        hidden = (
            self.representation.relative_floor * size
            if floor is None
            else torch.as_tensor(floor, dtype=torch.float64, device=device)
        )
        distance = torch.hypot(distance, hidden)
        if self.normalised:
            distance = largest_chord(distance, self._needed(norm))
        return PredictionBound(distance[..., None] * self.norms, Status.weakest(Status.PROOF, status))

    def certified_distance(self, values: Tensor, norm: Tensor) -> Tensor:
        """min_c' (f_c(x) - f_c'(x)) / ||f_c - f_c'||_H, c the predicted class: no y that is nearer changes the label.

        Args:
            values: f(x), ``(B, classes)``.
            norm: ||Phi(x)||, ``(B,)``.

        Returns:
            Distance between representations, ``(B,)``, rounded down; inf if there is one function only.
        """
        own, norm = self._own(values, None), norm.to(torch.float64)
        differences = (self.coefficients[:, :, None] - self.coefficients[:, None, :]).flatten(1)  # (n, C C)
        count = values.shape[1]
        norms = self._norm_of(differences).view(count, count)[own]  # (B, C)
        size = torch.ones_like(norm) if self.normalised else norm
        round_off = self._error * self._sizes(differences).view(count, count)[own] * size[:, None]
        gaps = values.gather(1, own[:, None]) - values - round_off
        ratios = torch.where(gaps > 0, gaps / norms, 0.0).scatter(1, own[:, None], torch.inf)
        smallest = ratios.amin(1)
        return safe_distance(smallest, norm) if self.normalised else smallest

    def _own(self, values: Tensor, labels: Tensor | None) -> Tensor:
        """The column of each image's class, ``(B,)``."""
        if labels is None:
            return values.argmax(dim=1)
        own = labels.to(self.classes.device)[:, None] == self.classes
        if not own.any(1).all():
            raise ValueError(f"labels must be among {self.classes.tolist()}, got others; fit with all classes")
        return own.int().argmax(dim=1)

    def _norm_of(self, coefficients: Tensor) -> Tensor:
        """sqrt(a^T K a + its round-off), ``(m,)``, for columns ``(n, m)``."""
        squared = (coefficients * (self._gram @ coefficients)).sum(0).clamp_min(0.0)
        return (squared + self._error * self._sizes(coefficients).square()).sqrt()

    def _sizes(self, coefficients: Tensor) -> Tensor:
        """sum_i |a_i| ||Phi(x_i)||, ``(m,)``: how large the terms are whose round-off a sum carries."""
        return self._gram.diagonal().clamp_min(0.0).sqrt() @ coefficients.abs()

    def _needed(self, norm: Tensor | None) -> Tensor:
        if norm is None:
            raise ValueError("norm must be ||Phi(x)|| for a normalised kernel, got None; use representation.norm(x)")
        return torch.as_tensor(norm, dtype=torch.float64, device=self.coefficients.device)


def _gram(representation: KernelRepresentation, images: Tensor, matrix: Tensor | None) -> Tensor:
    """The kernel matrix of the images: computed, or the one that is given.

    Raises:
        ValueError: unless a given one has the images' shape, is symmetric and knows K(x_1, x_1).
    """
    if matrix is None:
        return kernel_matrix(representation, images)
    matrix = matrix.to(images.device)
    count = len(check_images(images))
    if matrix.shape != (count, count):
        raise ValueError(f"matrix must be ({count}, {count}), got {tuple(matrix.shape)}; leave it out")
    largest = float(matrix.diagonal().abs().amax())
    if not float((matrix - matrix.T).abs().amax()) <= MATRIX_ERROR * largest:
        raise ValueError("matrix must be symmetric and finite, got one that is not; use st.kernel_matrix")
    expected, given = float(kernel_matrix(representation, images[:1])[0, 0]), float(matrix[0, 0])
    if not abs(given - expected) <= MATRIX_ERROR * abs(expected):
        raise ValueError(
            f"matrix must be that of the representation and these images, got {given:.6g} for K(x_1, x_1) = "
            f"{expected:.6g}; use st.kernel_matrix(representation, images)"
        )
    return matrix
