r"""Heads: what a representation is read by, as a function of images that can be differentiated.

Either a function of the features, or a ``Predictor``, f_c(y) = sum_i a_ic K(x_i, y) + b_c, to which kernels are enough.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stability.operators.precision import unit
from stability.representations.module import evaluation_mode
from stability.representations.pair_gradient import safe_root
from stability.rkhs.predictor import Predictor
from stability.rkhs.sphere import normalise
from stability.search.compared import Compared

Head = Callable[[Tensor], Tensor] | Predictor
"""Features ``(n, K, *size')`` to outputs ``(n, classes)``, differentiable (``torch.nn.Identity()`` for logits); or a
predictor of the representation, of images. Modules are asked in evaluation mode, whatever their flags say."""

Outputs = Callable[[Tensor], Tensor]
"""Images ``(n, C, *size)`` to outputs ``(n, classes)``, float64, differentiable."""


def precision(head: Head) -> torch.dtype | None:
    """That of a network's first floating-point parameter; None: it has none."""
    if not isinstance(head, nn.Module):
        return None
    return next((p.dtype for p in head.parameters() if p.is_floating_point()), None)


def unit_of(head: Head, compared: Compared) -> float:
    """eps of the head's arithmetic: of its parameters, or of what comes out of it."""
    if isinstance(head, Predictor):
        return torch.finfo(torch.float64).eps
    with torch.no_grad():
        found = [_read(head, compared.features(compared.images[:1]), 1).dtype]
    found += [own for own in [precision(head)] if own is not None]
    return max(unit(dtype, compared.images.device) for dtype in found if dtype.is_floating_point)


def check_head(head: object) -> None:
    """Raise ``ValueError`` unless it maps something."""
    if not callable(head):
        raise ValueError(f"head must map features to outputs, got {head!r}; use torch.nn.Linear(features, classes)")


def outputs_of(head: Head, compared: Compared) -> Outputs:
    """The head behind the representation.

    Raises:
        ValueError: for a predictor of another representation, or, when it is called, for shapes that do not fit.
    """
    if isinstance(head, Predictor):
        return _predicted(head, compared)

    def outputs(images: Tensor) -> Tensor:
        return _read(head, compared.features(images), len(images)).to(torch.float64)

    return outputs


def column_of(head: Head, label: int | Tensor, count: int, classes: int, device: torch.device) -> Tensor:
    """Which output belongs to the label of each image, ``(count,)`` int64.

    Args:
        head: of a predictor labels are among its classes; otherwise they number the outputs.
        label: an integer, or one for each image.
        count: of images.
        classes: of outputs.
        device: of the result.

    Raises:
        ValueError: if the label is no class, or there are less than two.
    """
    if classes < 2:
        raise ValueError(f"head must have at least two outputs for a margin, got {classes}; use Change(head)")
    labels = torch.as_tensor(label, device=device).reshape(-1)
    if labels.is_floating_point() or labels.dtype == torch.bool or len(labels) not in (1, count):
        raise ValueError(
            f"label must be an integer, or one for each of {count} images, got {label!r}; use the "
            "labels of dataset(...)"
        )
    known = head.classes.to(device) if isinstance(head, Predictor) else torch.arange(classes, device=device)
    own = labels.long()[:, None] == known
    if not bool(own.any(1).all()):
        among = f"from 0 to {classes - 1}" if not isinstance(head, Predictor) else f"among {known.tolist()}"
        raise ValueError(f"label must be a class {among}, got {labels.tolist()}; see the head")
    return own.int().argmax(1).expand(count)


def _predicted(head: Predictor, compared: Compared) -> Outputs:
    """f(y), from kernels with those images of the fit that have a coefficient."""
    if head.representation is not compared.representation:
        raise ValueError("representation must be that of the predictor, got another; pass predictor.representation")
    if compared.images.shape[1:] != head.images.shape[1:]:
        raise ValueError(
            f"images must have shape (B, {', '.join(map(str, head.images.shape[1:]))}) like those of the fit, got "
            f"{tuple(compared.images.shape)}; bring them to that size"
        )
    used = head.coefficients.ne(0).any(1)
    kernels = compared.kernels(head.images[used])
    device = compared.norm.device
    coefficients, norms = head.coefficients[used].to(device), head.norms_of_images[used].to(device)
    intercepts = head.intercepts.to(device)

    def outputs(images: Tensor) -> Tensor:
        cross, itself = kernels(images)  # (n, m), (n,)
        if head.normalised:
            cross = normalise(cross, safe_root(itself), norms)
        return cross @ coefficients + intercepts

    return outputs


def _read(head: Callable[[Tensor], Tensor], features: Tensor, count: int) -> Tensor:
    own = head if isinstance(head, nn.Module) else nn.Identity()
    features = features.to(precision(head) or features.dtype)  # networks compute in their own
    try:
        with evaluation_mode(own):
            outputs = head(features)
    except RuntimeError as error:  # torch's words for shapes and types that do not fit
        raise ValueError(
            f"head must take {features.dtype} features of shape {tuple(features.shape)}, got {error}; flatten or cast "
            "them, or fit its layers"
        ) from error
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        got = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"head must give a tensor of floating-point outputs, got {got}; take its logits")
    if outputs.ndim != 2 or len(outputs) != count:
        raise ValueError(
            f"head must give outputs ({count}, classes), got {tuple(outputs.shape)}; end it with a linear layer"
        )
    return outputs
