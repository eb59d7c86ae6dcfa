"""Generators of displacement fields for ``deformations.py``: ours, those of other packages, two laws written out.

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
from stability.grid import coordinates  # noqa: E402

CUTOFF = 4
"""Cycles per side. The lattices of others have spacing side / 8, half the shortest wavelength."""

SMOOTHING = 16
"""Standard deviation side / 16 of Gaussian filters: the root mean square frequency is that of a disc of 3.6 cycles."""

DISPLACEMENT, JACOBIAN = 1 / 32, 0.35
"""Requests: sup |tau| as a share of the side, sup ||grad tau||_2."""

Run = Callable[[], object]
"""Draws a batch: all fields in one tensor, as a step of training takes them."""

Make = Callable[[int, int], tuple[Run, Callable[[object], Tensor]]]
"""From side and number of fields to a run and the field ``(fields, side, side, 2)`` in its result, last axis (x, y)."""


@dataclass(frozen=True)
class Generator:
    """A row of the tables.

    Args:
        name: as printed.
        make: see ``Make``; raises ImportError if the package is missing.
        package: its distribution, None for our own and for laws written out here.
        request: what the user asks for, a = ``DISPLACEMENT`` sides.
        ours: whether norms are ours.
        bare: whether it is a bare Fourier transform of noise.
    """

    name: str
    make: Make
    package: str | None = None
    request: str = "sup a"
    ours: bool = False
    bare: bool = False


def identity(result: object) -> Tensor:
    """The result itself."""
    assert isinstance(result, Tensor)
    return result


def channels_last(result: object) -> Tensor:
    """From (fields, 2, side, side)."""
    return identity(result).movedim(1, -1)


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(control: Callable[[st.FourierField, int], st.FourierField], dtype: torch.dtype = torch.float64) -> Make:
    """Draw, control, evaluate on the pixel grid."""

    def make(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
        rng = torch.Generator().manual_seed(0)

        def run() -> Tensor:
            field = st.FourierField.sample(
                (side, side), cutoff=CUTOFF, batch_shape=(fields,), generator=rng, dtype=dtype
            )
            return control(field, side).on_grid()

        return run, identity

    return make


def uncontrolled(field: st.FourierField, side: int) -> st.FourierField:
    """As drawn."""
    return field


def one_norm(field: st.FourierField, side: int) -> st.FourierField:
    """sup |tau|."""
    return st.control(field, displacement_norm=DISPLACEMENT * side)


def shift_mode(field: st.FourierField, side: int) -> st.FourierField:
    """Both norms; a constant fills up sup |tau|, here three times what the spectrum alone would give."""
    return st.control(field, displacement_norm=3 * DISPLACEMENT * side, jacobian_norm=JACOBIAN, shift=(1.0, 0.0))


def spectrum_mode(field: st.FourierField, side: int) -> st.FourierField:
    """Both norms; the spectrum is tilted."""
    return st.control(field, displacement_norm=DISPLACEMENT * side, jacobian_norm=JACOBIAN)


# --- others -----------------------------------------------------------------------------------------------------------


def kornia(widths: int) -> Make:
    """The field of ``elastic_transform2d``: uniform noise, Gaussian filter of ``widths`` standard deviations, zeros."""

    def make(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
        blur = importlib.import_module("kornia.filters").gaussian_blur2d
        sigma = side / SMOOTHING
        size = int(widths * sigma) | 1

        def run() -> object:
            noise = torch.rand(fields, 2, side, side) * 2 - 1
            return blur(noise, (size, size), (sigma, sigma), border_type="constant") * (DISPLACEMENT * side)

        return run, channels_last

    return make


def monai(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
    """``RandDeformGrid`` and the bicubic upsampling of ``Rand2DElastic``, one field a call."""
    transforms = importlib.import_module("monai.transforms")
    spacing = (side / 8, side / 8)
    draw = transforms.RandDeformGrid(spacing=spacing, magnitude_range=(DISPLACEMENT * side,) * 2)
    crop = transforms.CenterSpatialCrop(roi_size=(side, side))

    def one() -> Tensor:
        grid = torch.nn.functional.interpolate(
            draw((side, side))[None], scale_factor=spacing, mode="bicubic", recompute_scale_factor=True
        )
        return torch.as_tensor(crop(grid[0]))

    def field(result: object) -> Tensor:
        place = coordinates((side, side)) - (side - 1) / 2  # the grid holds places from the centre, rows first
        return identity(result)[:, [1, 0]].movedim(1, -1) - place

    return lambda: torch.stack([one() for _ in range(fields)]), field


def torchio(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
    """``RandomElasticDeformation`` on a volume of one slice: its B-spline evaluated at the voxels, one field a call."""
    tio = importlib.import_module("torchio")
    sitk = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.Image([side, side, 1], sitk.sitkFloat32)
    most = (DISPLACEMENT * side, DISPLACEMENT * side, 0.0)

    def one() -> Tensor:
        points = tio.RandomElasticDeformation.get_params((11, 11, 5), most, 2)  # 8 cells a side, as its formula says
        spline = tio.ElasticDeformation(points, most).get_bspline_transform(image)
        size, origin, spacing = image.GetSize(), image.GetOrigin(), image.GetSpacing()
        field = sitk.TransformToDisplacementField(spline, sitk.sitkVectorFloat64, size, origin, spacing)
        return torch.as_tensor(sitk.GetArrayFromImage(field)[0, :, :, :2])

    return lambda: torch.stack([one() for _ in range(fields)]), identity


def batchgenerators(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
    """``SpatialTransform.get_parameters``, one field a call."""
    module = importlib.import_module("batchgeneratorsv2.transforms.spatial.spatial")
    transform = module.SpatialTransform(
        (side, side),
        0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=1 / SMOOTHING,
        elastic_deform_magnitude=DISPLACEMENT * side,
    )
    image = torch.zeros(1, side, side)

    def run() -> Tensor:
        return torch.stack([transform.get_parameters(image=image)["elastic_offsets"] for _ in range(fields)])

    return run, lambda result: identity(result).flip(-1)


def voxelmorph(integrations: int) -> Make:
    """``random_disp``; its magnitude is a standard deviation."""

    def make(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
        draw = importlib.import_module("voxelmorph").random_disp

        def run() -> object:
            magnitude = DISPLACEMENT * side
            options = {"scales": side / 8, "magnitude": magnitude, "integrations": integrations}
            return draw((fields, side, side), non_spatial_dims=(0,), **options)

        return run, lambda result: channels_last(result).flip(-1)

    return make


def scipy(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
    """Simard's elastic distortion: uniform noise through ``gaussian_filter``, one component a call."""
    blur = importlib.import_module("scipy.ndimage").gaussian_filter
    rng = importlib.import_module("numpy").random.default_rng(0)
    scale = DISPLACEMENT * side

    def run() -> object:
        noise = (rng.uniform(-1, 1, (side, side)) for _ in range(2 * fields))
        parts = [torch.as_tensor(scale * blur(one, side / SMOOTHING, mode="constant")) for one in noise]
        return torch.stack(parts).reshape(fields, 2, side, side)

    return run, channels_last


def bare_fft(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
    """A periodic Gaussian field with E |tau|^2 = a^2: Gaussian weights and one inverse transform."""
    x, y = torch.fft.rfftfreq(side), torch.fft.fftfreq(side)[:, None]
    weight = (-2 * (math.pi * side / SMOOTHING) ** 2 * (x * x + y * y)).exp()
    power = float((weight.square() * torch.where((x == 0) | (x == 0.5), 1.0, 2.0)).sum())
    weight = weight * (DISPLACEMENT * side / math.sqrt(2 * power)) * side**2

    def run() -> Tensor:
        return torch.fft.irfft2(torch.randn(fields, 2, *weight.shape, dtype=torch.complex64) * weight, s=(side, side))

    return run, channels_last


def max_entropy(side: int, fields: int) -> tuple[Run, Callable[[object], Tensor]]:
    """Sines i, j >= 1 with i^2 + j^2 <= c^2, C_ij ~ N(0, T / (i^2 + j^2)), one component a call.

    Reference: Petrini, Favero, Geiger & Wyart 2021.
    """
    delta = DISPLACEMENT  # typical displacement in units of the side
    temperature = 4 * delta**2 / (math.pi * math.log(CUTOFF))
    wave = torch.arange(1, CUTOFF + 1)
    x = torch.linspace(0, 1, side)
    square = wave[:, None] ** 2 + wave**2
    weight = (square <= CUTOFF**2) * (temperature / square).sqrt() * side

    def component() -> Tensor:
        table = torch.sin(math.pi * x[:, None] * wave)  # (side, c)
        return table @ (torch.randn(CUTOFF, CUTOFF) * weight) @ table.T

    def run() -> Tensor:
        return torch.stack([component() for _ in range(2 * fields)]).reshape(fields, 2, side, side)

    return run, channels_last


GENERATORS = [
    Generator("ours: no norm controlled", ours(uncontrolled), request="nothing", ours=True),
    Generator("ours: one norm", ours(one_norm), ours=True),
    Generator("ours: both norms, shift mode", ours(shift_mode), request="sup 3 a", ours=True),
    Generator("ours: both norms, spectrum mode", ours(spectrum_mode), ours=True),
    Generator("  the same, float32 fields", ours(spectrum_mode, torch.float32), ours=True),
    Generator("kornia elastic, kernel 2 sigma", kornia(2), "kornia", "alpha = a"),
    Generator("kornia elastic, kernel 6 sigma", kornia(6), "kornia", "alpha = a"),
    Generator("MONAI RandDeformGrid", monai, "monai", "magnitude a"),
    Generator("TorchIO RandomElasticDeformation", torchio, "torchio", "at most a per axis"),
    Generator("batchgeneratorsv2 SpatialTransform", batchgenerators, "batchgeneratorsv2", "a per axis"),
    Generator("voxelmorph random_disp", voxelmorph(0), "voxelmorph", "std a"),
    Generator("voxelmorph, 7 integrations", voxelmorph(7), "voxelmorph", "std a"),
    Generator("scipy gaussian_filter (Simard)", scipy, "scipy", "alpha = a"),
    Generator("max-entropy (Petrini 2021)", max_entropy, request="typical a"),
    Generator("bare torch.fft Gaussian field", bare_fft, request="rms a", bare=True),
]
