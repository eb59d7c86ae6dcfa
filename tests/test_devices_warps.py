"""Warps, their adjoints and errors, and augmentations give on a device what they give on the CPU."""

import kornia.augmentation as kornia
import pytest
import torch
from warp_registry import WARPS, label

import stability as st

SIZE = (12, 10)
EVERY = [*WARPS, st.TangentPerturbation()]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=2, dtype=torch.float64):
    return st.grid.band_limit(torch.rand(count, 1, *SIZE, generator=rng(1), dtype=torch.float64)).to(dtype)


def field(count=2):
    drawn = st.FourierField.sample(SIZE, cutoff=2, batch_shape=(count,), generator=rng())
    return st.control(drawn, displacement_norm=0.4, jacobian_norm=0.3)


@pytest.mark.parametrize("warp", EVERY, ids=label)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_warps_and_adjoints(warp, dtype, place):
    def warped(x, tau):
        operator = warp.operator(tau)
        return warp(x, tau), warp(x[:, None], tau), warp.adjoint(x, tau), operator(x), operator.adjoint(x)

    place.check(warped, lambda: (images(dtype=dtype), field()), rtol=1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize(
    "warp",
    [warp for warp in EVERY if warp.points_per_pixel == 1 and not isinstance(warp, st.IndexWarp)],
    ids=label,
)
def test_gradients_in_image_and_points(warp, place):
    def gradients(x, points):
        value = warp.sample(x, points).square().sum()
        return torch.autograd.grad(value, [x, points], allow_unused=True)

    def build():
        points = 12 * torch.rand(2, SIZE[0] * SIZE[1], 2, generator=rng(), dtype=torch.float64)
        return images().requires_grad_(), points.requires_grad_()

    place.check(gradients, build)


def test_errors_and_recommendations(place):
    def known(x, tau):
        warps = (st.SplineWarp(), st.BilinearWarp(st.Reflect()), st.IndexWarp(st.Zero()))
        errors = [st.interpolation_error(x, tau, warp) for warp in warps]
        return errors, repr(st.recommend_warp(x, tau, 0.2))

    place.check(known, lambda: (images(), field()))


def test_large_images_too(place):
    def warped(x, tau):
        return st.BandLimitedWarp()(x, tau), st.SplineWarp()(x, tau)

    def build():
        tau = st.FourierField.sample((96, 96), cutoff=2, generator=rng())
        x = torch.rand(1, 1, 96, 96, generator=rng(), dtype=torch.float64)
        return st.grid.band_limit(x), tau

    place.check(warped, build)


def transformed(x):
    deform = st.DeformationTransform((0.2, 0.4), (0.2, 0.4), p=0.7, generator=rng())
    return *deform(x, (x > 0.5).long()), *dict(deform.norms.to_frame()).values()


def test_a_transform_with_a_generator_of_the_cpu(place):
    place.check(transformed, lambda: (images(4, torch.float32),), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kornia_with_masks_points_and_boxes(dtype, place):
    def augmented(x, masks, points, boxes):
        keys = ["input", "mask", "keypoints", "bbox_xyxy"]
        deform = st.RandomDeformation((0.2, 0.4), (0.2, 0.4), p=0.7, generator=rng())
        sequence = kornia.AugmentationSequential(deform, data_keys=keys)
        return *sequence(x, masks, points, boxes), *sequence.inverse(x, masks, points, boxes, params=sequence._params)

    def build():
        x = images(4, dtype)
        points = 10 * torch.rand(4, 3, 2, generator=rng(), dtype=dtype)
        boxes = torch.tensor([[[2.0, 3.0, 6.0, 8.0]]], dtype=dtype).repeat(4, 1, 1)
        return x, (x > 0.5).to(dtype), points, boxes

    place.check(augmented, build, rtol=1e-4)


def test_augmentation_of_a_batch(place):
    def augmented(x):
        deform = st.RandomDeformation((0.2, 0.4), (0.2, 0.4), p=0.7, generator=rng())
        first = deform(x)
        return first, deform(x, params=deform._params)

    place.check(augmented, lambda: (images(4, torch.float32),), rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_generator_of_the_gpu_draws_fields_there():
    gpu = torch.Generator("cuda").manual_seed(0)
    tau = st.FourierField.sample(SIZE, cutoff=2, batch_shape=(2,), generator=gpu)
    assert tau.device.type == "cuda"
    deform = st.DeformationTransform(0.5, generator=gpu)
    assert deform(images().cuda()).device.type == "cuda"
