r"""``Architecture``: everything the theory sees of Phi_n = A_n M_n P_n A_{n-1} ... M_1 P_1 A_0.

A frozen value without tensors. It feeds both the representation and the bound, so the two cannot disagree.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stability import front_ends, kernels
from stability.boundaries import PERIODIC, NetworkBoundary, Periodic, Zero
from stability.names import unknown
from stability.plain_data import BOUNDARIES, FRONT_ENDS, KERNELS, build, check_keys, from_plain, plain


@dataclass(frozen=True)
class Layer:
    """One layer A_k M_k P_k: patches, kernel map, Gaussian pooling, subsampling.

    Args:
        patch_size: e, side of the square patch in pixels of the layer's own grid, >= 1. Odd sizes are centred; an
            even e covers the offsets -(e/2 - 1) ... e/2. Patches average over their positions and sum over channels.
        pooling_scale: sigma_k of A_k itself (not accumulated): standard deviation of the Gaussian in INPUT pixels,
            >= 0; 0 means no pooling.
        subsampling: s_k >= 1, the stride with which A_k's output is kept.
        kernel: kappa of the layer.
    """

    patch_size: int
    pooling_scale: float
    subsampling: int = 1
    kernel: kernels.Kernel = kernels.Exponential()

    def __post_init__(self) -> None:
        for name in ("patch_size", "subsampling"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}; use {name}=1 for none")
        scale = self.pooling_scale
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"pooling_scale must be finite and >= 0 input pixels, got {scale!r}; use 0 for no pooling")
        object.__setattr__(self, "pooling_scale", float(scale))  # equal architectures hash equally
        if not isinstance(self.kernel, kernels.Kernel):
            raise ValueError(
                f"kernel must be a stability.kernels.Kernel, got {self.kernel!r}; use kernels.Exponential(alpha=1.0)"
            )


@dataclass(frozen=True)
class Architecture:
    """Phi_n(x) = A_n M_n P_n A_{n-1} ... M_1 P_1 A_0 F x.

    Args:
        layers: one or more ``Layer``.
        antialiasing: sigma_0 of A_0 in input pixels; 0 or None: no A_0.
        boundary: what patches and poolings read beyond the border of every map: ``Periodic()``, the torus, the setting
            of the theorem; or ``Zero()``, zeros, which the theorem covers for fields that vanish near the border only.
        front_end: a linear map F applied first, or None.

    Raises:
        ValueError: if there is no layer or a value is out of range.

    Reference: Bietti & Mairal 2019, section 2.

    >>> Architecture.dyadic(depth=2).layers[1].pooling_scale
    4.0
    """

    layers: tuple[Layer, ...]
    antialiasing: float | None = 1.0
    boundary: NetworkBoundary = Periodic()
    front_end: front_ends.FrontEnd | None = None

    def __post_init__(self) -> None:
        given = self.layers
        object.__setattr__(self, "layers", tuple(given) if isinstance(given, list | tuple) else ())
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"layers must be a tuple of one or more Layer, got {given!r}; use (Layer(3, 2.0),)")
        sigma = 0.0 if self.antialiasing is None else self.antialiasing
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not (math.isfinite(sigma) and sigma >= 0):
            raise ValueError(f"antialiasing must be None or >= 0 input pixels, got {sigma!r}; the default is 1.0")
        object.__setattr__(self, "antialiasing", float(sigma) or None)
        if not isinstance(self.boundary, Periodic | Zero):
            raise ValueError(f"boundary must be Periodic() or Zero(), got {self.boundary!r}; use Periodic() for bounds")
        if self.front_end is not None and not isinstance(self.front_end, front_ends.FrontEnd):
            raise ValueError(f"front_end must be None or a FrontEnd, got {self.front_end!r}; use MeanRemoval()")

    @classmethod
    def dyadic(
        cls,
        depth: int = 3,
        patch_size: int = 3,
        subsampling: int = 2,
        antialiasing: float = 1.0,
        kernel: kernels.Kernel | None = None,
        front_end: front_ends.FrontEnd | None = None,
        boundary: NetworkBoundary = PERIODIC,
    ) -> "Architecture":
        """sigma_k = sigma_0 2^k for k = 1 ... depth: the scale doubles in every layer.

        Args:
            depth: number of layers, >= 1.
            patch_size: e of every layer.
            subsampling: s of every layer.
            antialiasing: sigma_0 > 0 in input pixels.
            kernel: kappa of every layer, by default ``Exponential(1)``.
            front_end: as in ``Architecture``.
            boundary: as in ``Architecture``.
        """
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
            raise ValueError(f"depth must be an integer >= 1, got {depth!r}; use depth=3")
        if not antialiasing or antialiasing < 0:
            raise ValueError(f"antialiasing must be > 0 where all scales double from it, got {antialiasing!r}; use 1.0")
        kernel = kernel if kernel is not None else kernels.Exponential()
        layers = (Layer(patch_size, antialiasing * 2.0**k, subsampling, kernel) for k in range(1, depth + 1))
        return cls(tuple(layers), antialiasing, boundary, front_end)

    @property
    def depth(self) -> int:
        """n, the number of layers."""
        return len(self.layers)

    @property
    def spacings(self) -> tuple[int, ...]:
        """Grid spacing in input pixels before layer 1, ..., before layer n, after layer n (n + 1 values)."""
        values = [1]
        for layer in self.layers:
            values.append(values[-1] * layer.subsampling)
        return tuple(values)

    @property
    def scales(self) -> tuple[float, ...]:
        """sigma_0, ..., sigma_n in input pixels; 0 where there is no pooling."""
        return (self.antialiasing or 0.0, *(layer.pooling_scale for layer in self.layers))

    @property
    def lipschitz(self) -> tuple[float, ...]:
        """rho_1, ..., rho_n."""
        return tuple(layer.kernel.lipschitz for layer in self.layers)

    def patch_radius(self, k: int, d: int) -> float:
        """c_rms of layer k = 1 ... n in input pixels: root mean square of |c| over the patch.

        s sqrt(d (e^2 - 1) / 12) for odd e; s sqrt(d ((e^2 - 1) / 12 + 1 / 4)) for even e, whose offsets have mean 1/2.
        """
        e, s = self.layers[k - 1].patch_size, self.spacings[k - 1]
        return s * math.sqrt(d * ((e * e - 1) / 12 + (0.25 if e % 2 == 0 else 0.0)))

    @property
    def patch_reach(self) -> int:
        """The furthest that a patch of any layer reaches along an axis, in input pixels: max_k s_k floor(e_k / 2)."""
        return max(s * (layer.patch_size // 2) for layer, s in zip(self.layers, self.spacings, strict=False))

    def check_size(self, size: tuple[int, ...]) -> None:
        """Raise ``ValueError`` unless every stride but the last divides the grid it acts on and the patches fit.

        The last stride may leave a remainder: its output is only summed, never used as a torus again.

        Args:
            size: the image's side lengths in pixels.
        """
        for n in size:
            for k, (layer, spacing) in enumerate(zip(self.layers, self.spacings, strict=False), start=1):
                if n % spacing:
                    raise ValueError(
                        f"the side of the image must be a multiple of {spacing} px (the strides before layer {k}), "
                        f"got {n}; embed the images in another size or change the subsampling"
                    )
                if layer.patch_size > n // spacing:
                    raise ValueError(
                        f"patch_size must be at most the side of its layer's grid, got {layer.patch_size} on "
                        f"{n // spacing} pixels in layer {k}; use smaller patches or less subsampling"
                    )

    def replace(self, path: str, value: Any) -> "Architecture":
        """A copy with one value changed, addressed by a dotted path.

        Args:
            path: for example ``"layers.-1.pooling_scale"``, ``"layers.*.patch_size"`` (all layers), ``"antialiasing"``.
            value: the new value.

        Raises:
            ValueError: if the path leads nowhere; the message names the nearest field.

        >>> Architecture.dyadic(depth=2).replace("layers.-1.pooling_scale", 8).scales
        (1.0, 2.0, 8.0)
        """
        head, _, rest = path.partition(".")
        if head != "layers":
            return _replace_field(self, path, value)
        index, _, field = rest.partition(".")
        try:
            chosen = range(self.depth) if index == "*" else [range(self.depth)[int(index)]]
        except (ValueError, IndexError):
            raise ValueError(
                f"the layer in {path!r} must be * or an integer from {-self.depth} to {self.depth - 1}, got {index!r}; "
                "use for example layers.-1.pooling_scale"
            ) from None
        layers = list(self.layers)
        for i in chosen:
            layers[i] = _replace_field(layers[i], field, value)
        return dataclasses.replace(self, layers=tuple(layers))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``kind`` names each kernel and front end, the rest are their fields."""
        return {
            "layers": [
                {**{f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}, "kernel": plain(layer.kernel)}
                for layer in self.layers
            ],
            "antialiasing": self.antialiasing,
            "boundary": plain(self.boundary),
            "front_end": None if self.front_end is None else plain(self.front_end),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Architecture":
        """Inverse of ``to_dict``; an unknown key or kind is answered with the nearest.

        >>> arch = Architecture.dyadic(depth=1)
        >>> Architecture.from_dict(arch.to_dict()) == arch
        True
        """
        values = dict(data)
        check_keys("architecture", values, [field.name for field in dataclasses.fields(cls)])
        if "boundary" in values:
            values["boundary"] = build("boundary", values["boundary"], BOUNDARIES)
        if values.get("front_end") is not None:
            values["front_end"] = build("front_end", values["front_end"], FRONT_ENDS)
        layers = []
        entries = values.get("layers", ())
        if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
            raise ValueError(f"layers must be a list of mappings, got {entries!r}; give patch_size, pooling_scale, ...")
        for entry in entries:
            layer = dict(entry)
            check_keys("layer", layer, [field.name for field in dataclasses.fields(Layer)])
            missing = [name for name in ("patch_size", "pooling_scale") if name not in layer]
            if missing:
                raise ValueError(f"a layer must have {' and '.join(missing)}, got only {sorted(layer)}; add it")
            if "kernel" in layer:
                layer["kernel"] = build("kernel", layer["kernel"], KERNELS)
            layers.append(Layer(**layer))
        return cls(**{**values, "layers": tuple(layers)})

    def to_json(self) -> str:
        """``to_dict`` as compact JSON: the column ``architecture`` of a sweep's rows."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


def _replace_field(owner: Any, name: str, value: Any) -> Any:
    known = [field.name for field in dataclasses.fields(owner)]
    if name not in known:
        raise ValueError(unknown(f"a field of {type(owner).__name__}", name, known))
    return dataclasses.replace(owner, **{name: from_plain(name, value)})
