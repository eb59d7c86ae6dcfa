r"""``Warp``: L_tau x(u) = x(u - tau(u)), batches of images against batches of fields.

Convention: tau = (3, 0) moves the content 3 px to the RIGHT.
"""

import abc

import torch
from torch import Tensor

from stability.boundaries import Boundary, Periodic, Reflect
from stability.deformations.base import Deformation, common_shape
from stability.grid import check_images, coordinates, sides


class Warp(abc.ABC):
    """L_tau x(u) = x(u - tau(u)); image i with field i, leading dimensions broadcast.

    Convention: ``boundary`` continues x: ``Periodic()`` on the torus, ``Reflect()`` evenly about the window's border,
    ``Zero()`` by zeros beyond it.
    """

    boundary: Boundary = Periodic()

    @abc.abstractmethod
    def sample(self, images: Tensor, points: Tensor) -> Tensor:
        """The image that the warp makes of x at the points u - tau(u).

        Args:
            images: ``(..., C, *size)``, floating point.
            points: ``(..., P, d)`` in pixels; leading dimensions broadcast against those of the images. P runs over
                the grid of ``points_per_pixel`` nodes per pixel and axis, see ``nodes``.

        Returns:
            ``(..., C, *size)``.
        """

    @property
    @abc.abstractmethod
    def points_per_pixel(self) -> int:
        """Nodes per pixel and axis at which the warp looks the image up."""

    @property
    def deforms(self) -> bool:
        """Whether the result approximates L_tau x; otherwise no bound of the theory speaks about it."""
        return True

    def __call__(self, images: Tensor, deformation: Deformation) -> Tensor:
        """L_tau x.

        Args:
            images: ``(..., C, *size)``: floating point, on the deformation's grid. All images with all fields:
                ``images[:, None]`` ``(B, 1, C, H, W)`` against a batch ``(F,)`` of fields.
            deformation: batch shape broadcasts against the leading dimensions of the images; a field of a torus or
                of a window under either boundary rule.

        Returns:
            ``(..., C, *size)`` in the images' dtype and on their device.

        Raises:
            ValueError: if the images are not finite or live on another grid than the field.
        """
        return self.operator(deformation)(images)

    def adjoint(self, images: Tensor, deformation: Deformation) -> Tensor:
        """L_tau^T y: <L_tau x, y> = <x, L_tau^T y>, sums over pixels and channels, exactly as L_tau is computed.

        Args:
            images: y, ``(..., C, *size)``, floating point.
            deformation: batch shape broadcasts against the leading dimensions.

        Returns:
            ``(..., C, *size)``; for ``BandLimitedWarp`` a band-limited image, as L_tau is defined on those.

        Raises:
            ValueError: as for the warp itself.

        >>> from stability.deformations.translation import Translation
        >>> from stability.warps.index import IndexWarp
        >>> y = torch.arange(5.0, dtype=torch.float64).reshape(1, 1, 5)
        >>> IndexWarp().adjoint(y, Translation((1.0,), size=(5,))).flatten().tolist()
        [1.0, 2.0, 3.0, 4.0, 0.0]
        """
        return self.operator(deformation).adjoint(images)

    def operator(self, deformation: Deformation) -> "WarpOperator":
        """L_tau and its adjoint for one field or batch, whose points are computed once: for iterations."""
        u = nodes(deformation.size, self.points_per_pixel, self.boundary, device=deformation.device)
        return WarpOperator(self, u - deformation.displacement(u), deformation.size)


class WarpOperator:
    """x -> L_tau x as a linear operator, with its adjoint.

    Args:
        warp: how x is looked up.
        points: u - tau(u) at the warp's nodes, ``(..., P, d)``.
        size: the grid.
    """

    def __init__(self, warp: Warp, points: Tensor, size: tuple[int, ...]) -> None:
        self.warp, self.points, self.size = warp, points, size
        self._recorded: tuple[Tensor, Tensor] | None = None  # zeros, and their image with the graph between them

    def __call__(self, images: Tensor) -> Tensor:
        """L_tau x, ``(..., C, *size)``."""
        self._check(images)
        return self.warp.sample(images, self.points)

    def adjoint(self, images: Tensor) -> Tensor:
        """L_tau^T y, ``(..., C, *size)``."""
        self._check(images)
        lead = common_shape(images.shape[: -len(self.size) - 1], self.points.shape[:-2])
        images = images.expand(*lead, *images.shape[-len(self.size) - 1 :])
        if torch.is_grad_enabled() and (images.requires_grad or self.points.requires_grad):
            zeros, values = self._record(images, self.points)
            return torch.autograd.grad(values, zeros, images, create_graph=True)[0]
        with torch.enable_grad():
            last = self._recorded
            if last is None or (last[0].shape, last[0].dtype) != (images.shape, images.dtype):
                self._recorded = last = self._record(images, self.points.detach())
            zeros, values = last
            return torch.autograd.grad(values, zeros, images, retain_graph=True)[0]

    def _record(self, images: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """L_tau at 0: its derivative there, and everywhere, is L_tau."""
        zeros = torch.zeros_like(images, memory_format=torch.contiguous_format, requires_grad=True)
        return zeros, self.warp.sample(zeros, points)

    def _check(self, images: Tensor) -> None:
        d = len(self.size)
        if isinstance(images, Tensor) and images.device != self.points.device:  # before any value is looked at
            raise ValueError(
                f"images and deformation must be on one device, got {images.device} and {self.points.device}; "
                "use deformation.to(device=images.device)"
            )
        check_images(images, d)
        if tuple(images.shape[-d:]) != self.size:
            raise ValueError(
                f"images must live on the deformation's grid {self.size}, got {tuple(images.shape[-d:])}; "
                "sample the field with the images' size"
            )


def nodes(
    size: tuple[int, ...], per_pixel: int, boundary: Boundary, *, device: torch.device | str | None = None
) -> Tensor:
    """The grid on which a warp looks an image up, ``(P, d)`` in pixels, float64, first axis of ``size`` slowest.

    Args:
        size: ``(N,)`` or ``(H, W)``.
        per_pixel: nodes per pixel and axis.
        boundary: ``Periodic()`` and ``Zero()``: 0, 1 / per_pixel, ...: equispaced on the torus. ``Reflect()``: the
            centres of ``per_pixel`` equal parts of every pixel's cell: equispaced on the window and its mirror image.
        device: where the nodes are put.

    >>> nodes((2,), 2, Periodic()).flatten().tolist(), nodes((2,), 2, Reflect()).flatten().tolist()
    ([0.0, 0.5, 1.0, 1.5], [-0.25, 0.25, 0.75, 1.25])
    """
    u = coordinates(size, oversample=per_pixel, dtype=torch.float64, device=device).flatten(0, -2)
    return u + (1 / per_pixel - 1) / 2 if isinstance(boundary, Reflect) and per_pixel > 1 else u


def unfold(images: Tensor, d: int, boundary: Boundary) -> Tensor:
    """The images on the torus where the boundary rule is periodicity.

    Args:
        images: ``(..., C, *size)``.
        d: number of spatial axes.
        boundary: ``Periodic()``: the images themselves. ``Reflect()``: they and their mirror images side by side,
            ``(..., C, *(2 size))``; pixel u of the window is pixel u of that torus.

    >>> unfold(torch.tensor([[1.0, 2.0, 3.0]]), 1, Reflect())
    tensor([[1., 2., 3., 3., 2., 1.]])
    """
    if isinstance(boundary, Reflect):
        for axis in range(-d, 0):
            images = torch.cat([images, images.flip(axis)], axis)
    return images


def one_to_one(images: Tensor, points: Tensor) -> tuple[Tensor, Tensor, torch.Size]:
    """Leading dimensions broadcast and flattened, so that image i goes with the points i.

    Args:
        images: ``(..., C, *size)``.
        points: ``(..., P, d)``.

    Returns:
        Images ``(B, C, *size)``, points ``(B, P, d)`` and the broadcast leading shape, of B elements.
    """
    d = points.shape[-1]
    if points.dim() == 3 and images.dim() == d + 2 and len(images) == len(points):
        return images, points, images.shape[:1]
    lead = torch.Size(common_shape(images.shape[: -d - 1], points.shape[:-2]))
    images = images.expand(*lead, *images.shape[-d - 1 :]).reshape(-1, *images.shape[-d - 1 :])
    return images, points.expand(*lead, *points.shape[-2:]).reshape(-1, *points.shape[-2:]), lead


def wrap(points: Tensor, size: tuple[int, ...]) -> Tensor:
    """Points moved into the fundamental domain [0, W) x [0, H) of the torus, ``(..., d)``."""
    period = sides(size, dtype=points.dtype, device=points.device)
    wrapped = points - period * torch.floor(points / period)
    return torch.where(wrapped >= period, wrapped - period, wrapped)  # round-off of tiny negative coordinates
