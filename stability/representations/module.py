r"""``ModuleRepresentation``: any torch module as a representation, its features taken at one or several layers."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from stability.grid import check_images, is_expanded, spatial_size
from stability.names import unknown
from stability.operators.precision import unit
from stability.representations.base import KernelRepresentation, Reference, paired
from stability.representations.explicit import BATCH
from stability.representations.round_off import measured_floor

OUTPUT = "output"
"""What the module's own output is called among the layers."""


class ModuleReference(Reference):
    """The features of x at every layer; other images are encoded a few at a time, once for all layers."""

    def __init__(self, representation: "ModuleRepresentation", images: Tensor) -> None:
        self._representation, self._images = representation, images
        self._features = representation.layer_vectors(images)
        self._norms = torch.stack([rows.norm(dim=1) for rows in self._features])
        self.norm = self._norms.norm(dim=0)

    @property
    def floor(self) -> Tensor:
        """Round-off of all layers together, as measured at x, ``(B,)``."""
        return self.floors.norm(dim=0)

    @property
    def norms(self) -> Tensor:
        """||Phi_l(x)|| of every layer l, ``(L, B)``."""
        return self._norms

    @cached_property
    def floors(self) -> Tensor:  # when asked for: it takes three more passes
        """Round-off of every layer, as measured at x, ``(L, B)``."""
        phi, several = self._representation, is_expanded(self._images)
        images = self._images[:1] if several else self._images
        known = [rows[: len(images)] for rows in self._features]
        with torch.no_grad():
            found = [output.dtype for output in phi.layers(images[:1])]
        eps = max([unit(phi.dtype, known[0].device), *(torch.finfo(dtype).eps for dtype in found)])
        return measured_floor(phi.layer_vectors, images, known, eps).expand(-1, len(self._images))

    def distance(self, others: Tensor) -> Tensor:
        """(sum_l ||Phi_l(x_i) - Phi_l(y_i...)||^2)^(1/2), ``(B,)`` or ``(B, ...)``."""
        return self.distances(others).norm(dim=0)

    def distances(self, others: Tensor) -> Tensor:
        """||Phi_l(x_i) - Phi_l(y_i...)|| of every layer l, ``(L, B)`` or ``(L, B, ...)``, in one pass."""
        d = len(spatial_size(self._images))
        extra = paired(self._images, check_images(others, d), d)
        fields = math.prod(extra)
        flat = others.reshape(-1, *others.shape[len(extra) + 1 :])  # (B F, C, *size)
        columns = []
        for start in range(0, len(flat), BATCH):
            encoded = self._representation.layer_vectors(flat[start : start + BATCH])
            of = torch.arange(start, start + len(encoded[0]), device=flat.device) // fields
            pairs = zip(encoded, self._features, strict=True)
            columns.append(torch.stack([(rows - features[of]).norm(dim=1) for rows, features in pairs]))
        return torch.cat(columns, dim=1).view(len(self._features), len(self._images), *extra)


class ModuleRepresentation(KernelRepresentation):
    r"""Phi(x) = the outputs of named submodules for the input (x - mean) / std; several layers: their direct sum.

    ||Phi(x)||^2 sums over channels and positions, the latter weighted with their area H W / (H' W') if a layer's
    output is a map ``(B, K, *size')``; other outputs have area 1. Features are those of evaluation mode, whatever the
    flags of the module say and whoever sets them: they are set for every pass and put back after it. The module is
    not copied, so that it may be trained on; it computes in the dtype and on the device of its first floating-point
    parameter (without parameters: float64).

    Convention: layers are named as in ``module.named_modules()``; a map's channels are its second axis.

    Args:
        module: takes images ``(B, C, *size)``.
        layer: "features.3", a sequence of such names, or None: the module's own output, called "output".
        mean: subtracted from the images: a number, or one per channel.
        std: divides them: positive, a number or one per channel.

    Raises:
        ValueError: for an unknown layer (the nearest is named), or a mean or std that is not finite and positive.

    >>> net = ModuleRepresentation(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()), layer=["0", "1"])
    >>> net.reference(torch.rand(2, 1, 8, 8)).distances(torch.rand(2, 5, 1, 8, 8)).shape
    torch.Size([2, 2, 5])
    """

    def __init__(
        self,
        module: nn.Module,
        layer: str | Sequence[str] | None = None,
        *,
        mean: float | Sequence[float] | Tensor | None = None,
        std: float | Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}; wrap it in one")
        names = tuple(layer) if isinstance(layer, list | tuple) else (layer,)
        known = [name for name, _ in module.named_modules(remove_duplicate=False) if name]
        for name in names:
            if name is not None and name not in known:
                raise ValueError(unknown("layer", name, known))
        if not names or len(set(names)) < len(names):
            raise ValueError(f"layer must name one or more different layers, got {layer!r}; use None for the output")
        self.architecture, self.module, self._layers, self.training = None, module, names, False
        for key, value in (("mean", mean), ("std", std)):
            self.register_buffer(key, _per_channel(key, value), persistent=False)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers as they were asked for; "output" for the module's own output."""
        return tuple(OUTPUT if name is None else name for name in self._layers)

    @property
    def dtype(self) -> torch.dtype:
        """That of the module's first floating-point parameter or buffer; float64 if there is none."""
        return self._computes(torch.device("cpu"))[0]

    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """H W / (H' W') for maps ``(B, K, *size')``; 1 for other outputs and for several layers (it is in them)."""
        return _area(size, features) if len(self._layers) == 1 else 1.0

    def refined(self, factor: int) -> "ModuleRepresentation":
        """Not defined.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"a module must be evaluated on its own grid, got the request for one {factor} times as fine; "
            "its layers have no scales in pixels: ask for no refinement"
        )

    def train(self, mode: bool = True) -> Self:
        """Nothing: the features are always those of evaluation mode, and the module's flags are its owner's."""
        return self

    def layers(self, images: Tensor) -> list[Tensor]:
        """Every layer's raw output for images ``(B, C, *size)``, differentiable, from one pass of the module."""
        dtype, device = self._computes(images.device)
        inputs = self._normalised(images.to(device, dtype, copy=True))  # a copy: the module may work in place
        found: dict[str | None, object] = {}
        calls: Counter[str] = Counter()
        with evaluation_mode(self.module), contextlib.ExitStack() as hooks:
            for name in self._layers:
                if name is not None:
                    hook = _recorder(name, found, calls)
                    hooks.callback(self.module.get_submodule(name).register_forward_hook(hook).remove)
            found[None] = self.module(inputs)
        for name in self._layers:
            if name is not None and calls[name] != 1:
                raise ValueError(
                    f"layer {name!r} must be called once in a forward pass, got {calls[name]} calls; choose another, "
                    "for example its parent or a child"
                )
        pairs = zip(self.layer_names, self._layers, strict=True)
        return [_features(shown, found[name], len(images)) for shown, name in pairs]

    def forward(self, images: Tensor) -> Tensor:
        """The layer's raw output; of several layers sqrt(area) times the outputs, flattened and joined, ``(B, K)``."""
        outputs = self.layers(images)
        if len(outputs) == 1:
            return outputs[0]
        size = spatial_size(images)
        return torch.cat([math.sqrt(_area(size, output)) * output.flatten(1) for output in outputs], dim=1)

    def layer_vectors(self, images: Tensor) -> list[Tensor]:
        """sqrt(area) Phi_l(x) of every layer l as rows ``(B, K_l)``, float64, a few images at a time."""
        size, parts = spatial_size(check_images(images)), []
        with torch.no_grad():
            for part in images.split(BATCH):
                outputs = [(output, math.sqrt(_area(size, output))) for output in self.layers(part)]
                parts.append([output.flatten(1).to(images.device, torch.float64) * area for output, area in outputs])
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def vectors(self, images: Tensor) -> Tensor:
        """The rows of all layers side by side, ``(B, K)``, float64."""
        return torch.cat(self.layer_vectors(images), dim=1)

    def reference(self, images: Tensor) -> ModuleReference:
        """The features of the images at every layer."""
        return ModuleReference(self, images)

    def kernel_matrix(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """<Phi(x_i), Phi(y_j)>, ``(Bx, By)``, float64; of several layers the sum over them."""
        left = self.vectors(images)
        return left @ (left if others is None else self.vectors(others)).T

    def distance_matrices(self, images: Tensor) -> Tensor:
        """||Phi_l(x_i) - Phi_l(x_j)|| from the features, without the cancellation of a Gram matrix, ``(L, B, B)``."""
        return torch.stack([
            torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist") for rows in self.layer_vectors(images)
        ])  # fmt: skip

    def _computes(self, default: torch.device) -> tuple[torch.dtype, torch.device]:
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
        return torch.float64, default

    def _normalised(self, inputs: Tensor) -> Tensor:
        """(x - mean) / std per channel."""
        d = len(spatial_size(inputs))
        for key in ("mean", "std"):
            value = getattr(self, key)
            if value is None:
                continue
            if len(value) not in (1, inputs.shape[1]):
                raise ValueError(
                    f"{key} must be one number or one per channel ({inputs.shape[1]}), got {len(value)}; give as many "
                    "as the images have channels"
                )
            value = value.to(inputs).view(-1, *(1,) * d)  # (C, 1, 1)
            inputs = inputs - value if key == "mean" else inputs / value
        return inputs


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own flag afterwards.

    The flags are set one by one: ``eval()`` of some modules does more than that (it may merge weights).
    """
    before = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in before:
            part.training = False
        yield
    finally:
        for part, flag in before:
            part.training = flag


def _recorder(
    name: str, found: dict[str | None, object], calls: Counter[str]
) -> Callable[[nn.Module, object, object], None]:
    """A forward hook that keeps a layer's output and counts its calls."""

    def record(module: nn.Module, inputs: object, output: object) -> None:
        calls[name] += 1
        found[name] = output.clone() if isinstance(output, Tensor) else output  # the next layer may work in place

    return record


def _features(name: str, output: object, count: int) -> Tensor:
    """A layer's output, if it is a floating-point tensor with the images along its first axis."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"layer {name!r} must return a floating-point tensor, got {kind}; choose a layer that does")
    if output.ndim < 2 or len(output) != count:
        raise ValueError(
            f"the output of layer {name!r} must have shape ({count}, K, ...) for {count} images, got "
            f"{tuple(output.shape)}; choose a layer that keeps the batch axis"
        )
    return output


def _area(size: tuple[int, ...], output: Tensor) -> float:
    """H W / (H' W') for maps ``(B, K, *size')``, 1 for everything else."""
    return math.prod(size) / math.prod(output.shape[2:]) if output.ndim == len(size) + 2 else 1.0


def _per_channel(name: str, value: float | Sequence[float] | Tensor | None) -> Tensor | None:
    """The numbers as a tensor ``(C,)``, or None."""
    if value is None:
        return None
    numbers = torch.as_tensor(value, dtype=torch.float64).detach().flatten().clone()
    if not numbers.numel() or not torch.isfinite(numbers).all() or (name == "std" and not (numbers > 0).all()):
        positive = " and positive" if name == "std" else ""
        raise ValueError(f"{name} must be finite{positive}, got {value!r}; give one number or one per channel")
    return numbers
