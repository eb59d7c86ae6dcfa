"""``RandomDeformation``: ``DeformationTransform`` as an augmentation of kornia and its containers."""

from collections.abc import Mapping
from typing import Any

import torch
from kornia.augmentation import GeometricAugmentationBase2D
from kornia.constants import Resample
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from stability.augmentation.draw import NAMES, Draw, DrawnNorms, check_floating
from stability.augmentation.reach import SMOOTH, Law
from stability.augmentation.rows import PREFIX, packed, unpacked
from stability.augmentation.strength import Length, Value
from stability.augmentation.transform import BY_SPLINES, DeformationTransform
from stability.warps.base import Warp
from stability.warps.bilinear import BilinearWarp

Parameters = dict[str, Tensor]


class RandomDeformation(GeometricAugmentationBase2D):
    r"""x(u - tau(u)), tau random with sup |tau| and sup ||grad tau|| as asked for; labels move with the image.

    Alone, and in ``AugmentationSequential`` with masks (nearest pixel), key points (v with v - tau(v) = p, exact) and
    boxes (the enclosing box of the moved one). Strength, randomness and refusals are those of ``DeformationTransform``.

    Parameters hold the drawn fields themselves, ``field`` and ``field/...``, one row per sample, and their norms:
    ``displacement_norm`` and ``jacobian_norm`` (attained), ``displacement_norm_upper`` and ``jacobian_norm_upper``
    (certified). Replaying them solves nothing and gives the same bits. Skipped samples come back bit for bit.

    ``inverse`` warps by the inverse field, and takes key points back exactly.

    Args:
        displacement_norm: see ``DeformationTransform``.
        jacobian_norm: likewise.
        fields: likewise.
        warp: likewise.
        injective: likewise; without it key points and boxes of a field that folds are refused.
        clamp: likewise.
        generator: likewise; gates are drawn from it too.
        same_on_batch: one field and one gate for the whole batch.
        p: probability that a sample is deformed.
        keepdim: whether the output has the rank of the input, or is a batch.

    Convention: containers hold boxes by the centres of their first and last pixels, and those are what is moved.
    ``transform_matrix`` is NaN: no matrix describes a deformation. Derived from the geometric base, because containers
    hand key points and boxes to no other; ``extra_args={DataKey.MASK: {"resample": "bilinear"}}`` for soft masks.

    >>> from kornia.augmentation import AugmentationSequential
    >>> aug = RandomDeformation((0.5, 2.0), p=1.0, generator=torch.Generator().manual_seed(0))
    >>> both = AugmentationSequential(aug, data_keys=["input", "keypoints"])
    >>> image, points = both(torch.rand(2, 3, 32, 32), torch.full((2, 1, 2), 16.0))
    >>> again, _ = both(torch.zeros_like(image), points, params=both._params)
    >>> bool((aug.norms.displacement_norm <= 2.0).all())
    True
    """

    _compute_matrix_lazily = True

    def __init__(
        self,
        displacement_norm: Length | None = None,
        jacobian_norm: Value | None = None,
        *,
        fields: Law = SMOOTH,
        warp: Warp = BY_SPLINES,
        injective: bool = True,
        clamp: tuple[float, float] | None = None,
        generator: torch.Generator | None = None,
        same_on_batch: bool = False,
        p: float = 0.5,
        keepdim: bool = False,
    ) -> None:
        transform = DeformationTransform(
            displacement_norm, jacobian_norm, fields=fields, warp=warp, injective=injective, clamp=clamp, p=p,
            same_on_batch=same_on_batch, generator=generator,
        )  # fmt: skip
        super().__init__(p=p, p_batch=1.0, same_on_batch=same_on_batch, keepdim=keepdim)
        self.deformation = transform

    @property
    def norms(self) -> DrawnNorms:
        """The norms that were drawn last, seen and certified.

        Raises:
            ValueError: before the first call.
        """
        if "displacement_norm" not in self._params:
            raise ValueError("norms must be read after a call, got none yet; call the augmentation")
        return DrawnNorms(**{name: self._params[name] for name in NAMES}, applied=_gate(self._params))

    def forward(self, input: Tensor, params: Parameters | None = None, **kwargs: Any) -> Tensor:
        """The deformed images ``(B, C, H, W)``; ``(C, H, W)`` and ``(H, W)`` are batches of one.

        Args:
            input: floating point.
            params: those of an earlier call, to replay it.
            kwargs: as kornia hands them on.
        """
        check_floating(input)
        if input.ndim not in (2, 3, 4):
            raise ValueError(
                f"images must be (B, C, H, W), (C, H, W) or (H, W), got {tuple(input.shape)}; reshape them"
            )
        if params is not None and "batch_prob" in params:
            count = len(input) if input.ndim == 4 else 1
            known = len(_gate(params))
            if known != count:
                raise ValueError(
                    f"params must be those of a batch of {count}, got one row for each of {known} samples; "
                    "leave params out"
                )
        return super().forward(input, params=params, **kwargs)

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Parameters:
        """Fields and norms for a batch ``(B, C, H, W)``."""
        parameters = self.forward_parameters(batch_shape)
        return {name: value for name, value in parameters.items() if name not in ("batch_prob", "forward_input_shape")}

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> Parameters:
        """Gate, fields and norms for a batch ``(B, C, H, W)``, all from one seed."""
        count, size = int(batch_shape[0]), tuple(int(side) for side in batch_shape[-2:])
        drawn = self.deformation.draw(size, count, p=self.p, same_on_batch=self.same_on_batch)
        norms = drawn.norms
        return {
            **packed(drawn.field),
            **{name: getattr(norms, name) for name in NAMES},
            "batch_prob": drawn.applied.to(dtype=self.dtype, device=self.device),
            "forward_input_shape": torch.tensor([int(side) for side in batch_shape]),
        }

    def compute_transformation(self, input: Tensor, params: Parameters, flags: Mapping[str, Any]) -> Tensor:
        """NaN ``(B, 3, 3)``: a product with it must not look like the whole transform."""
        return torch.full((input.shape[0], 3, 3), torch.nan, dtype=input.dtype, device=input.device)

    def compute_inverse_transformation(self, transform: Tensor) -> Tensor:
        """The same: nothing to invert."""
        return transform

    def apply_transform(
        self, input: Tensor, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Images by the warp."""
        return self._draw(params, len(input)).images(input) if len(input) else input

    def apply_transform_mask(
        self, input: Tensor, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Masks by the nearest pixel, or what ``resample`` asks for."""
        return self._masks(input, self._draw(params, len(input)), flags) if len(input) else input

    def apply_transform_keypoint(
        self, input: Keypoints, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None
    ) -> Keypoints:
        """Key points by the inverse map."""
        return _moved_points(input, self._draw(params, _count(input.data, 3))) if input.data.numel() else input

    def apply_transform_box(
        self, input: Boxes, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None
    ) -> Boxes:
        """Boxes by the inverse map of their borders."""
        return _moved_boxes(input, self._draw(params, _count(input.data, 4))) if input.data.numel() else input

    def inverse_inputs(
        self, input: Tensor, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Images by the inverse field: up to interpolation, and to what left the image."""
        images = self.transform_tensor(input)
        return self._draw(params, len(images)).inverse().images(images) if len(images) else images

    def inverse_masks(
        self,
        input: Tensor,
        params: Parameters,
        flags: Mapping[str, Any],
        transform: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Masks by the inverse field."""
        masks = self.transform_tensor(input, shape=params["forward_input_shape"], match_channel=False)
        if len(masks):
            masks = self._masks(masks, self._draw(params, len(masks)).inverse(), {**flags, **kwargs})
        return masks.reshape(input.shape) if self.keepdim else masks

    def inverse_boxes(
        self, input: Boxes, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None, **_: Any
    ) -> Boxes:
        """The boxes that enclose what the given ones were: not smaller than before."""
        return _moved_boxes(input, self._draw(params, _count(input.data, 4)).inverse()) if input.data.numel() else input

    def inverse_keypoints(
        self, input: Keypoints, params: Parameters, flags: Mapping[str, Any], transform: Tensor | None = None, **_: Any
    ) -> Keypoints:
        """u = v - tau(v), exactly."""
        return (
            _moved_points(input, self._draw(params, _count(input.data, 3)).inverse()) if input.data.numel() else input
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.deformation.extra_repr()}, keepdim={self.keepdim})"

    def _draw(self, params: Parameters, count: int) -> Draw:
        """The draw for so many samples: all, or, in kornia 0.8, those that are deformed alone."""
        if PREFIX not in params:
            raise ValueError("params must be those of an earlier call, got none with a field; leave params out")
        tau, applied = unpacked(params), _gate(params).cpu()
        if count != len(applied) and count == int(applied.sum()):
            tau, applied = tau[applied.nonzero()[:, 0].to(tau.device)], applied[applied]
        return Draw(tau, applied, self.deformation.warp, self.deformation.clamp)

    def _masks(self, masks: Tensor, drawn: Draw, flags: Mapping[str, Any]) -> Tensor:
        resample = Resample.get(flags.get("resample", Resample.NEAREST))
        if resample == Resample.NEAREST:
            return drawn.masks(masks)
        if resample == Resample.BILINEAR:
            soft = BilinearWarp(boundary=self.deformation.warp.boundary)
            return Draw(drawn.field, drawn.applied, soft).images(masks)
        raise ValueError(f"resample of masks must be nearest or bilinear, got {resample}; leave it out")


def _gate(params: Parameters) -> Tensor:
    """Which samples are deformed, bool ``(B,)``."""
    return torch.atleast_1d(params["batch_prob"] > 0.5)


def _count(data: Tensor, rank: int) -> int:
    """Samples of key points or boxes, which may come without their batch."""
    return len(data) if data.ndim == rank else 1


def _moved_points(points: Keypoints, drawn: Draw) -> Keypoints:
    """A copy with other coordinates, unbatched if the points were."""
    data = points.data
    moved = points.clone()
    moved._data = drawn.points(data) if data.ndim == 3 else drawn.points(data[None])[0]
    return moved


def _moved_boxes(boxes: Boxes, drawn: Draw) -> Boxes:
    """A copy with the corners (x_0, y_0), (x_1, y_0), (x_1, y_1), (x_0, y_1) of the enclosing boxes."""
    data = boxes.data if boxes.data.ndim == 4 else boxes.data[None]  # (B, K, 4, 2)
    ends = drawn.boxes(torch.cat([data.amin(-2), data.amax(-2)], dim=-1))
    corners = ends[..., [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(-1, (4, 2))
    moved = boxes.clone()
    moved._data = corners if boxes.data.ndim == 4 else corners[0]
    return moved
