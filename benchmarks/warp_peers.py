"""Warps for ``warps.py``: ours and those of other packages, from images and a displacement on the pixel grid.

Importing this module sets one thread, before the libraries load.
"""

import importlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when the libraries load

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import stability as st  # noqa: E402
from stability.deformations.base import Deformation  # noqa: E402
from stability.warps.base import Warp, nodes  # noqa: E402

FIRST, SECOND = torch.float32, torch.float64


@dataclass(frozen=True)
class Task:
    """What every method is given.

    Args:
        images: ``(B, C, n, n)``.
        displacement: tau on the pixel grid, ``(B, n, n, 2)``, last axis (x, y), in the dtype of the images.
        field: the same as functions; None where only pixels are at hand.
    """

    images: Tensor
    displacement: Tensor
    field: Deformation | None = None

    @property
    def side(self) -> int:
        """n."""
        return self.images.shape[-1]

    @property
    def points(self) -> Tensor:
        """u - tau(u), ``(B, n, n, 2)``."""
        u = nodes((self.side, self.side), 1, st.Periodic()).unflatten(0, (self.side, self.side))
        return (u - self.displacement.double()).to(self.displacement.dtype)

    def to(self, dtype: torch.dtype) -> "Task":
        """Images and displacement in another precision."""
        return Task(self.images.to(dtype), self.displacement.to(dtype), self.field)


Run = Callable[[], Tensor]
"""Warps the batch, ``(B, C, n, n)``."""

Make = Callable[[Task], Run]
"""From a task to a run; what the user is given in the form that the method takes is made here, outside the clock."""


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Args:
        name: as printed.
        make: see ``Make``; raises ImportError if a package is missing.
        package: its distribution, None for our own.
        dtype: of images and displacement when it is timed.
        sides: pixels a side at which it is timed; none: errors only.
        accuracy: whether it has a row in the table of errors.
    """

    name: str
    make: Make
    package: str | None = None
    dtype: torch.dtype = FIRST
    sides: tuple[int, ...] = (32, 224)
    accuracy: bool = True


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(warp: Callable[[], Warp]) -> Make:
    """``warp.sample`` at the points u - tau(u); where the warp wants band-limited images, it is given such."""

    def make(task: Task) -> Run:
        made, points, images = warp(), task.points.flatten(1, 2), task.images
        if isinstance(made, st.BandLimitedWarp) and isinstance(made.boundary, st.Periodic):
            images = st.grid.band_limit(images)  # the same images, up to round-off, unless they are not periodic
        return lambda: made.sample(images, points)

    return make


def whole(warp: Callable[[], Warp]) -> Make:
    """``warp(images, deformation)``: the displacement is evaluated too, in double precision."""

    def make(task: Task) -> Run:
        made, field = warp(), task.field
        assert field is not None
        return lambda: made(task.images, field)

    return make


# --- others -----------------------------------------------------------------------------------------------------------


def bare(mode: str) -> Make:
    """``grid_sample(align_corners=True)`` with its grid ready made."""

    def make(task: Task) -> Run:
        grid = task.points * (2 / (task.side - 1)) - 1
        sample = torch.nn.functional.grid_sample
        return lambda: sample(task.images, grid, mode=mode, padding_mode="border", align_corners=True)

    return make


def kornia(task: Task) -> Run:
    """``remap`` with its maps ready made."""
    remap = importlib.import_module("kornia.geometry.transform").remap
    x, y = (task.points[..., i].contiguous() for i in range(2))
    return lambda: remap(task.images, x, y, mode="bilinear", padding_mode="border", align_corners=True)


def monai(mode: str) -> Make:
    """``Warp``; its field points the other way, rows first."""

    def make(task: Task) -> Run:
        warp = importlib.import_module("monai.networks.blocks").Warp(mode, "border")
        field = -task.displacement.flip(-1).movedim(-1, 1).contiguous()
        return lambda: warp(task.images, field)

    return make


def scipy(order: int) -> Make:
    """``map_coordinates(mode="grid-wrap")``, one channel a call."""

    def make(task: Task) -> Run:
        look_up = importlib.import_module("scipy.ndimage").map_coordinates
        images, places = task.images.numpy(), task.points.flip(-1).movedim(-1, 1).contiguous().numpy()

        def run() -> Tensor:
            done = (
                torch.as_tensor(look_up(channel, where, order=order, mode="grid-wrap"))
                for image, where in zip(images, places, strict=True)
                for channel in image
            )
            return torch.stack(list(done)).reshape(task.images.shape)

        return run

    return make


def simpleitk(spline: bool) -> Make:
    """``Resample`` with a ``DisplacementFieldTransform``: an image a call, or a channel a call for splines."""

    def make(task: Task) -> Run:
        sitk = importlib.import_module("SimpleITK")
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        fields = (-task.displacement).double().numpy()
        kind = sitk.sitkBSpline3 if spline else sitk.sitkLinear

        def resample(image: object, field: object) -> Tensor:
            transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(field, isVector=True))
            return torch.as_tensor(sitk.GetArrayFromImage(sitk.Resample(image, transform, kind)))

        def colours(image: Tensor, field: object) -> Tensor:
            if spline:  # scalar images only
                return torch.stack([resample(sitk.GetImageFromArray(one.numpy()), field) for one in image])
            vectors = sitk.GetImageFromArray(image.movedim(0, -1).contiguous().numpy(), isVector=True)
            return resample(vectors, field).movedim(-1, 0)

        return lambda: torch.stack([colours(*pair) for pair in zip(task.images, fields, strict=True)])

    return make


def interpol(order: int) -> Make:
    """``grid_pull`` on the torus, prefilter included."""

    def make(task: Task) -> Run:
        pull = importlib.import_module("interpol").grid_pull
        grid = task.points.flip(-1).contiguous()
        options = {"interpolation": order, "bound": "dft", "extrapolate": True, "prefilter": order > 1}
        return lambda: pull(task.images, grid, **options)

    return make


def finufft(tolerance: float, *, spectrum: bool = False, packed: bool = False) -> Make:
    """Type 2 at the points: one plan for the batch, image after image, the channels of one as ``n_trans`` transforms.

    ``spectrum``: the Fourier coefficients are given. ``packed``: two channels are one complex image.
    """

    def make(task: Task) -> Run:
        library = importlib.import_module("finufft")
        n, channels = task.side, task.images.shape[1]
        kind = "complex128" if task.images.dtype == SECOND else "complex64"
        angles = (task.points * (2 * math.pi / n)).flatten(1, 2).movedim(-1, 1).contiguous().numpy()
        transforms = (channels + 1) // 2 if packed else channels
        options = {"n_trans": transforms, "eps": tolerance, "isign": 1, "modeord": 1, "nthreads": 1, "dtype": kind}
        plan = library.Plan(2, (n, n), **options)

        def coefficients() -> Tensor:
            images = task.images
            if packed:
                even = torch.nn.functional.pad(images, (0, 0, 0, 0, 0, channels % 2))
                images = torch.complex(even[:, ::2], even[:, 1::2])
            return torch.fft.fft2(images, norm="forward")

        ready = coefficients() if spectrum else None

        def run() -> Tensor:
            values = []
            for image, (x, y) in zip((coefficients() if ready is None else ready).numpy(), angles, strict=True):
                plan.setpts(y, x)
                values.append(torch.as_tensor(plan.execute(image)).view(transforms, n, n))
            found = torch.stack(values)
            if packed:
                return torch.stack([found.real, found.imag], dim=2).flatten(1, 2)[:, :channels]
            return found.real

        return run

    return make


def pytorch_finufft(tolerance: float) -> Make:
    """``finufft_type2``, an image a call."""

    def make(task: Task) -> Run:
        type_2 = importlib.import_module("pytorch_finufft").functional.finufft_type2
        angles = (task.points.flip(-1) * (2 * math.pi / task.side)).flatten(1, 2).movedim(-1, 1).contiguous()
        options = {"eps": tolerance, "isign": 1, "modeord": 1, "nthreads": 1}

        def run() -> Tensor:
            spectra = torch.fft.fft2(task.images, norm="forward")
            values = [type_2(where, one, **options).real for where, one in zip(angles, spectra, strict=True)]
            return torch.stack(values).view(task.images.shape)

        return run

    return make


BILINEAR, CUBIC, QUINTIC = "ours: BilinearWarp", "ours: SplineWarp", "ours: SplineWarp(degree=5)"
DENSE, FAST = "ours: BandLimitedWarp(1), float64", "ours: the same by NonuniformFFT, float64"
BARE, INTERPOL = "torch grid_sample, bilinear", "torch-interpol, order {}"
EXACT = "finufft 1e-12, float64"
PACKED = "finufft 1e-12, float64, two channels in one"
WHOLE = "  the same, displacement included"

OURS: list[tuple[str, Callable[[], Warp], torch.dtype, tuple[int, ...]]] = [
    ("ours: IndexWarp", st.IndexWarp, FIRST, (32, 224)),
    (BILINEAR, st.BilinearWarp, FIRST, (32, 224)),
    (CUBIC, st.SplineWarp, FIRST, (32, 224)),
    (QUINTIC, lambda: st.SplineWarp(degree=5), FIRST, (32, 224)),
    (DENSE, lambda: st.BandLimitedWarp(1, evaluation=st.MatrixProducts()), SECOND, (32,)),
    (FAST, lambda: st.BandLimitedWarp(1, evaluation=st.NonuniformFFT(1e-12)), SECOND, (32, 224)),
]

REFLECTING: list[tuple[str, Callable[[], Warp]]] = [
    ("ours: BilinearWarp(Reflect())", lambda: st.BilinearWarp(boundary=st.Reflect())),
    ("ours: SplineWarp(Reflect())", lambda: st.SplineWarp(boundary=st.Reflect())),
    ("ours: SplineWarp(Reflect(), degree=5)", lambda: st.SplineWarp(boundary=st.Reflect(), degree=5)),
    ("ours: BandLimitedWarp(1, Reflect())", lambda: st.BandLimitedWarp(1, boundary=st.Reflect())),
]

METHODS = [
    *(
        method
        for name, warp, dtype, sides in OURS
        for method in (
            Method(name, ours(warp), None, dtype, sides),
            Method(WHOLE, whole(warp), None, dtype, sides, accuracy=False),
        )
    ),
    *(Method(name, ours(warp), sides=()) for name, warp in REFLECTING),
    Method(BARE, bare("bilinear"), "torch"),
    Method("torch grid_sample, bicubic", bare("bicubic"), "torch"),
    Method("kornia remap(align_corners=True)", kornia, "kornia"),
    Method("MONAI Warp, bilinear", monai("bilinear"), "monai"),
    Method("MONAI Warp, bicubic", monai("bicubic"), "monai"),
    *(Method(f"scipy map_coordinates, order {k}", scipy(k), "scipy") for k in (1, 3, 5)),
    Method("SimpleITK, linear", simpleitk(False), "SimpleITK"),
    Method("SimpleITK, BSpline3", simpleitk(True), "SimpleITK"),
    *(Method(INTERPOL.format(k), interpol(k), "torch-interpol") for k in (1, 3, 5)),
    Method("finufft 1e-6", finufft(1e-6), "finufft"),
    Method("  the same, spectrum given", finufft(1e-6, spectrum=True), "finufft", accuracy=False),
    Method(EXACT, finufft(1e-12), "finufft", SECOND),
    Method("  the same, spectrum given", finufft(1e-12, spectrum=True), "finufft", SECOND, accuracy=False),
    Method(PACKED, finufft(1e-12, packed=True), "finufft", SECOND, accuracy=False),
    Method("pytorch-finufft 1e-6", pytorch_finufft(1e-6), "pytorch-finufft"),
]
