"""The torus: axis order, band limit, refusals."""

import math

import pytest
import torch

from stability import grid


def test_points_are_x_then_y():
    u = grid.coordinates((2, 3))
    assert u.shape == (2, 3, 2)
    assert u[1, 2].tolist() == [2.0, 1.0]
    assert grid.coordinates((4,), oversample=2)[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert grid.sides((2, 3)).tolist() == [3.0, 2.0]


@pytest.mark.parametrize("shape", [(2, 1, 8), (2, 3, 7, 8), (2, 1, 6, 6), (1, 1, 5, 5)], ids=str)
def test_band_limit_is_the_projection_off_the_nyquist_modes(shape, generator):
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = grid.band_limit(x)
    d = len(shape) - 2
    axes = tuple(range(-d, 0))
    spectrum = torch.fft.fftn(x, dim=axes)
    for axis, n in zip(axes, shape[-d:], strict=True):
        if n % 2 == 0:
            spectrum.select(axis, n // 2).zero_()
    assert torch.allclose(y, torch.fft.ifftn(spectrum, dim=axes).real, atol=1e-14)
    assert torch.allclose(grid.band_limit(y), y, atol=1e-15)
    assert grid.nyquist_share(y).max() < 1e-15


def test_nyquist_share_of_a_checkerboard_is_one():
    x = ((-1.0) ** torch.arange(8, dtype=torch.float64)).expand(1, 1, 8, 8)
    assert grid.nyquist_share(x).item() == pytest.approx(1.0)
    assert grid.nyquist_share(0 * x).item() == 0.0


def test_five_axes_with_given_dimension(generator):
    x = torch.randn(2, 1, 1, 6, 6, generator=generator, dtype=torch.float64)
    assert torch.equal(grid.band_limit(x, 2)[:, 0], grid.band_limit(x[:, 0]))


def test_frequencies_are_radians_per_pixel_in_fft_order():
    assert grid.frequencies(4).tolist() == pytest.approx([0.0, math.pi / 2, -math.pi, -math.pi / 2])


@pytest.mark.parametrize("size", [(8, 8, 8), (1,), (8.5, 8), "32", (), None, (0, 4)], ids=repr)
def test_wrong_sizes_are_told(size):
    with pytest.raises(ValueError, match="size must be"):
        grid.check_size(size)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 1, 4, 4, dtype=torch.int64), "floating point"),
        (torch.tensor([[[float("inf"), 0.0]]]), "finite"),
        (torch.zeros(3), "shape"),
        ([[1.0]], "torch tensor"),
    ],
)
def test_wrong_images_are_told(images, message):
    with pytest.raises(ValueError, match=message):
        grid.check_images(images)
