"""``DeformationTransform``: random deformations of known size for torchvision-style pipelines and ``DataLoader``s."""

import functools
from typing import overload

import torch
from torch import Tensor, nn

from stability.augmentation.draw import Draw, DrawnNorms, check_floating
from stability.augmentation.reach import SMOOTH, Law, check_reach, draw
from stability.augmentation.seeds import Seeds, check_generator
from stability.augmentation.strength import Length, Strength, Value
from stability.boundaries import Reflect
from stability.grid import check_size
from stability.warps.base import Warp
from stability.warps.spline import SplineWarp

BY_SPLINES = SplineWarp(boundary=Reflect())
"""The warp of augmentations: images are windows of something larger, and black borders would be a cue."""


class DeformationTransform(nn.Module):
    r"""x(u - tau(u)), tau random with sup |tau| and sup ||grad tau|| as asked for: exact over the continuum.

    Strength: every sample draws one s uniform in (0, 1] and gets a = a_0 + s (a_1 - a_0) and b = b_0 + s (b_1 - b_0),
    so that each norm is uniform in its range (a number: always that). One norm alone rescales the field and the other
    follows from it; both together tilt its spectrum (see ``control``), which reaches ratios b / a in an interval; what
    is outside, or folds, is refused in the first call for a size, with the interval. Nothing is clipped.

    Randomness: each call takes one seed from ``generator`` or, without one, from torch's default generator, and draws
    everything from that seed on the CPU: gates, then s, then fields. In the workers of a ``DataLoader`` both differ
    from worker to worker and epoch to epoch and are reproducible if the loader is (``torch.manual_seed``, or
    ``DataLoader(generator=...)``), for a given number of workers. Independent of that number: ``draw`` with a
    generator seeded by the sample's index. Processes started by hand need a seed of their own each.

    Args:
        displacement_norm: a in pixels (number, range, ``Pixels``) or relative to the shorter side (``Share``).
        jacobian_norm: b, a number or a range; no unit. At least one of the two is given.
        fields: what draws fields, by default ``functools.partial(FourierField.sample, cutoff=3)``.
        warp: what moves the pixels, by default cubic splines, the image continued by reflection.
        injective: promise that no map folds (||grad tau|| < 1, certified), so that key points and boxes can follow.
        clamp: (low, high): values of deformed images are cut to it. Splines overshoot at edges; None: nothing is cut.
        p: probability that a sample is deformed.
        same_on_batch: one field and one gate for the whole batch.
        generator: see above.

    Raises:
        ValueError: for arguments that do not make sense, and in a call for images that are not floating point, of the
            wrong rank, or with masks of another size, before anything is drawn.

    >>> deform = DeformationTransform(displacement_norm=2.0, generator=torch.Generator().manual_seed(0))
    >>> image, mask = torch.rand(3, 32, 32), torch.zeros(32, 32, dtype=torch.long)
    >>> moved, labels = deform(image, mask)
    >>> moved.shape, labels.dtype, round(deform.norms.displacement_norm.item(), 6)
    (torch.Size([3, 32, 32]), torch.int64, 2.0)
    """

    def __init__(
        self,
        displacement_norm: Length | None = None,
        jacobian_norm: Value | None = None,
        *,
        fields: Law = SMOOTH,
        warp: Warp = BY_SPLINES,
        injective: bool = True,
        clamp: tuple[float, float] | None = None,
        p: float = 1.0,
        same_on_batch: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.strength = Strength.of(displacement_norm, jacobian_norm, injective=injective)
        if not callable(fields):
            raise ValueError(
                f"fields must draw deformations, got {fields!r}; use partial(FourierField.sample, cutoff=3)"
            )
        if not isinstance(warp, Warp) or not warp.deforms:
            raise ValueError(f"warp must move pixels, got {warp!r}; use SplineWarp(boundary=Reflect())")
        if clamp is not None and (len(clamp) != 2 or not clamp[0] < clamp[1]):
            raise ValueError(f"clamp must be (low, high) or None, got {clamp!r}; use (0.0, 1.0)")
        self.fields, self.warp, self.injective, self.clamp = fields, warp, injective, clamp
        self.p, self.same_on_batch = check_probability(p), same_on_batch
        self._seeds = Seeds(generator)
        self._sizes: set[tuple[int, ...]] = set()
        self._last: Draw | None = None

    def check(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Whether images of this size can be deformed as asked for; every first call for a size asks it.

        In the main process, before a ``DataLoader`` starts its workers, it saves them the question, and the error
        appears where it can be read.

        Args:
            size: ``(H, W)``.

        Returns:
            The size.

        Raises:
            ValueError: if the norms are out of reach, with the interval that can be reached.
        """
        size = check_size(size)
        if len(size) != 2:
            raise ValueError(f"size must be (H, W), got {size}; deform signals by control and a warp")
        if size not in self._sizes:
            check_reach(self.fields, self.strength, size, injective=self.injective)
            self._sizes.add(size)
        return size

    def draw(
        self,
        size: tuple[int, ...],
        count: int = 1,
        *,
        p: float | None = None,
        same_on_batch: bool | None = None,
        generator: torch.Generator | None = None,
    ) -> Draw:
        """The fields of a batch of images, to be applied to them and to whatever moves with them.

        Args:
            size: ``(H, W)``.
            count: number of images.
            p: probability in place of the module's own.
            same_on_batch: in place of the module's own.
            generator: the random numbers of this draw, in place of the module's own, in workers too; for example
                ``torch.Generator().manual_seed(index)``.

        Returns:
            Fields of batch shape ``(count,)``, on the generator's device.

        Raises:
            ValueError: if the norms are out of reach for images of this size.
        """
        size = self.check(size)
        same = self.same_on_batch if same_on_batch is None else same_on_batch
        rng = self._seeds.next() if generator is None else check_generator(generator)
        n = min(1, count) if same else count
        gate, s = torch.rand((2, n), generator=rng, device=rng.device, dtype=torch.float64)
        applied = (gate < (self.p if p is None else check_probability(p))).cpu()
        field = draw(self.fields, self.strength, size, 1 - s, injective=self.injective, generator=rng) if n else None
        if field is None:
            field = self.fields(size, batch_shape=(0,), generator=rng)
        if n != count:
            row = torch.zeros(count, dtype=torch.long)
            field, applied = field[row.to(field.device)], applied[row]
        return Draw(field, applied, self.warp, self.clamp)

    @overload
    def forward(self, image: Tensor, mask: None = None, *, drawn: Draw | None = None) -> Tensor: ...

    @overload
    def forward(self, image: Tensor, mask: Tensor, *, drawn: Draw | None = None) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, image: Tensor, mask: Tensor | None = None, *, drawn: Draw | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The deformed image, and the mask deformed by the same field.

        Args:
            image: ``(C, H, W)`` or ``(B, C, H, W)``, floating point.
            mask: ``(H, W)`` or ``(C', H, W)``, with a batch ``(B, H, W)`` or ``(B, C', H, W)``; labels of any type.
            drawn: from ``draw``; None: new fields.

        Returns:
            The image, or (image, mask), shapes, types and devices kept.
        """
        check_floating(image)
        if image.ndim not in (3, 4):
            raise ValueError(f"images must be (C, H, W) or (B, C, H, W), got {tuple(image.shape)}; add an axis")
        if mask is not None:
            _check_mask(mask, image)
        batched = image.ndim == 4
        if drawn is None:
            drawn = self.draw(tuple(image.shape[-2:]), len(image) if batched else 1)
        self._last = drawn
        moved = drawn.images(image if batched else image[None])
        moved = moved if batched else moved[0]
        if mask is None:
            return moved
        return moved, drawn.masks(mask) if batched else drawn.masks(mask[None])[0]

    @property
    def norms(self) -> DrawnNorms:
        """The norms that the last call drew in this process, seen and certified.

        Raises:
            ValueError: before the first call.
        """
        if self._last is None:
            raise ValueError("norms must be read after a call, got none yet; use draw(size).norms for new fields")
        return self._last.norms

    def extra_repr(self) -> str:
        """The arguments that matter."""
        s = self.strength
        return (
            f"displacement_norm={s.displacement}, jacobian_norm={s.jacobian}, fields={_words(self.fields)}, "
            f"warp={self.warp}, injective={self.injective}, clamp={self.clamp}, p={self.p}, "
            f"same_on_batch={self.same_on_batch}"
        )


def _words(law: Law) -> str:
    """A law as it would be written: ``FourierField.sample(cutoff=3)``."""
    if not isinstance(law, functools.partial):
        return repr(law)
    arguments = [*map(repr, law.args), *(f"{name}={value!r}" for name, value in law.keywords.items())]
    return f"{getattr(law.func, '__qualname__', law.func)}({', '.join(arguments)})"


def check_probability(p: float) -> float:
    """The probability, if it is one.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ValueError(f"p must be a probability, got {p!r}; use p=0.5")
    return float(p)


def _check_mask(mask: object, image: Tensor) -> None:
    """Refuse a mask that is not on the image's pixels."""
    lead = image.shape[:1] if image.ndim == 4 else image.shape[:0]
    shape = tuple(mask.shape) if isinstance(mask, Tensor) else None
    ranks = (2 + len(lead), 3 + len(lead))
    if shape is None or len(shape) not in ranks or shape[-2:] != image.shape[-2:] or shape[: len(lead)] != tuple(lead):
        got = type(mask).__name__ if shape is None else shape
        expected = " or ".join(str((*lead, *inner, *image.shape[-2:])) for inner in ((), ("C",)))
        raise ValueError(f"mask must be a tensor {expected} beside images {tuple(image.shape)}, got {got}; resize it")
