"""The regulariser by cross-validation, from the kernel matrix of the training images alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.rkhs.methods import Method


@dataclass(frozen=True)
class Validation:
    """How methods do on images that they have not seen.

    Args:
        methods: as they were given.
        accuracies: share of images whose largest f_c is that of their own class, over all folds, in [0, 1].
    """

    methods: tuple[Method, ...]
    accuracies: tuple[float, ...]

    @property
    def best(self) -> Method:
        """The method with the largest accuracy; the first of equals."""
        return self.methods[self.accuracies.index(max(self.accuracies))]


def cross_validate(
    matrix: Tensor, labels: Tensor, methods: Sequence[Method], *, folds: int = 5, generator: torch.Generator
) -> Validation:
    """Share of held-out images that get their own label, for each method.

    Args:
        matrix: K(x_i, x_j) of the training images, ``(n, n)``: the kernel with which the predictor will be fitted.
        labels: ``(n,)``, integers.
        methods: with the regularisers to choose from, the strongest first: the first of equals wins.
        folds: parts of the training images, each held out once; every class is dealt out evenly.
        generator: of the deal.

    Raises:
        ValueError: for shapes that do not fit, or fewer than two folds.
        ImportError: if scikit-learn is not installed.

    >>> from stability.rkhs.methods import KernelRidge
    >>> points = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(10, 1)
    >>> rng = torch.Generator().manual_seed(0)
    >>> cross_validate(points @ points.T, points[:, 0].long(), [KernelRidge(1.0)], generator=rng).accuracies
    (1.0,)
    """
    _, indices = check_labels(matrix, labels)
    if not methods:
        raise ValueError("methods must hold at least one method, got none; use [KernelRidge(1.0)]")
    if not 2 <= folds <= len(indices):
        raise ValueError(f"folds must lie in [2, {len(indices)}], got {folds}; use 5")
    matrix, fold = matrix.to(torch.float64), deal(indices, folds, generator)
    hits = [0] * len(methods)
    for held in range(folds):
        seen, unseen = (fold != held).nonzero()[:, 0], (fold == held).nonzero()[:, 0]
        inner, outer = matrix[seen][:, seen], matrix[unseen][:, seen]
        present = torch.unique(indices[seen])  # a class of one image is absent when it is held out
        for m, method in enumerate(methods):
            coefficients, intercepts = method.solve(inner, one_against_rest(indices[seen], present))
            hits[m] += int((present[(outer @ coefficients + intercepts).argmax(1)] == indices[unseen]).sum())
    return Validation(tuple(methods), tuple(count / len(indices) for count in hits))


def check_labels(matrix: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The classes in increasing order ``(C,)``, and which of them each image has ``(n,)``.

    Raises:
        ValueError: for a matrix that is not square, labels that do not fit it, or one class only.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not torch.isfinite(matrix).all():
        raise ValueError(f"matrix must be (n, n) and finite, got {tuple(matrix.shape)}; use st.kernel_matrix(phi, x)")
    if labels.shape != matrix.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels must be ({len(matrix)},) integers, got {tuple(labels.shape)} {labels.dtype}")
    classes, indices = torch.unique(labels.to(matrix.device), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels must have at least two classes, got {classes.tolist()}; add images of another")
    return classes, indices


def one_against_rest(indices: Tensor, present: Tensor) -> Tensor:
    """+1 where the image has the class, -1 elsewhere, ``(n, C)``, float64."""
    return torch.where(indices[:, None] == present, 1.0, -1.0).to(torch.float64)


def deal(indices: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """A fold for each image ``(n,)``: shuffled, then class by class in turn."""
    order = torch.randperm(len(indices), generator=generator, device=generator.device).to(indices.device)
    order = order[torch.sort(indices[order], stable=True).indices]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order), device=order.device) % folds
    return fold
