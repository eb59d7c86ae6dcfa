"""Derivatives of exact distances in the second image: finite differences, the value, blocks, coinciding images."""

import math

import pytest
import torch

import stability as st
from stability import kernels
from stability.representations import pair_gradient
from stability.search.starts import Saturated


def network(kernel, depth, stride=1):
    layers = tuple(st.Layer(3, 1.0 + k, stride if k == 0 else 1, kernel) for k in range(depth))
    return st.Architecture(layers, antialiasing=0.8)


REPRESENTATIONS = [
    *(st.GramCKN(network(kernel, 2, 2)) for kernel in (kernels.Exponential(2.0), kernels.ArcCosine(1))),
    st.GramCKN(network(kernels.InversePolynomial(), 1)),
    st.GramCKN(network(kernels.Exponential(), 3)),
    st.GramNTK(network(kernels.ArcCosine(1), 1)),
    st.GramNTK(network(kernels.ArcCosine(1), 2, 2)),
]
NAMES = ["exponential", "arc-cosine", "one layer", "three layers", "tangent, one layer", "tangent"]


def images(generator, size=(6, 6), count=2):
    return 0.5 + torch.rand(2, count, 2, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=NAMES)
def test_the_value_is_that_of_the_fast_route(representation, generator):
    x, y = images(generator)
    reference = representation.reference(x)
    assert torch.allclose(reference.distance(y.clone().requires_grad_()), reference.distance(y), rtol=1e-9, atol=0)


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=NAMES)
@pytest.mark.parametrize("size", [(6, 6), (8,)], ids=str)
def test_the_gradient_is_that_of_finite_differences(representation, size, generator):
    x, y = images(generator, size)
    reference, direction = representation.reference(x), torch.randn(y.shape, generator=generator, dtype=torch.float64)
    y.requires_grad_()
    (gradient,) = torch.autograd.grad(reference.distance(y).sum(), y)
    step = 1e-5
    with torch.no_grad():
        ends = [reference.distance(y + s * step * direction).sum() for s in (1, -1)]
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]).item() / (2 * step), rel=1e-5)


def test_several_images_at_once(generator):
    x, _ = images(generator)
    others = (0.5 + torch.rand(2, 3, 2, 6, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    reference = REPRESENTATIONS[0].reference(x)
    whole = reference.distance(others)
    assert whole.shape == (2, 3)
    (gradient,) = torch.autograd.grad(whole.sum(), others)
    single = others[:, 1].detach().requires_grad_()
    (alone,) = torch.autograd.grad(reference.distance(single).sum(), single)
    assert torch.allclose(gradient[:, 1], alone, rtol=1e-10, atol=1e-14)


def test_blocks_do_not_show(generator, monkeypatch):
    x, y = images(generator)
    y.requires_grad_()
    reference = REPRESENTATIONS[1].reference(x)
    (whole,) = torch.autograd.grad(reference.distance(y).sum(), y)
    monkeypatch.setattr(pair_gradient, "BLOCK_ENTRIES", 2 * 6 * 36)
    (blocks,) = torch.autograd.grad(reference.distance(y).sum(), y)
    assert torch.allclose(blocks, whole, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("representation", REPRESENTATIONS[:4], ids=NAMES[:4])
def test_coinciding_images_have_finite_gradients(representation, generator):
    """At distance 0 there is no derivative; the squared distance has one, and it is 0."""
    x, _ = images(generator)
    y = x.clone().requires_grad_()
    distance = representation.reference(x).distance(y)
    (gradient,) = torch.autograd.grad((distance**2).sum(), y)
    assert gradient.isfinite().all()
    assert gradient.norm() < 1e-6 * x.norm()


def test_zero_patches_do_not_spoil_the_gradient(generator):
    x, y = images(generator, count=1)
    y[..., :5] = 0.0
    arch = network(kernels.Exponential(), 2).replace("antialiasing", None)
    y.requires_grad_()
    (gradient,) = torch.autograd.grad(st.GramCKN(arch).reference(x).distance(y).sum(), y)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


STEPS = [kernels.ArcCosine(0), kernels.Sign()]
SMOOTH = [kernels.Exponential(), kernels.ArcCosine(1), kernels.Erf(), kernels.LeakyReLU(0.2)]
AT_ONE = [st.GramCKN(network(kernel, 2)) for kernel in SMOOTH + STEPS]
AT_ONE += [st.GramNTK(network(kernel, depth)) for kernel in SMOOTH for depth in (1, 2)]


@pytest.mark.parametrize("representation", AT_ONE, ids=repr)
def test_gradients_are_right_where_patches_are_parallel(representation, generator):
    x, _ = images(generator)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    flat = torch.full_like(x, 0.5)
    for image, other in ((x, 2 * x), (flat, 3 * flat)):  # all cosines are 1, and stay so for the directions below
        reference, y = representation.reference(image), other.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(reference.distance(y).sum(), y)
        assert bool(torch.isfinite(gradient).all())
        ends = [reference.distance(other * (1 + s * 1e-5)).sum() for s in (1, -1)]
        assert (gradient * other).sum().item() == pytest.approx((ends[0] - ends[1]).item() / 2e-5, rel=1e-5)
    for other in (x, x + 1e-7 * direction, torch.zeros_like(x)):  # no derivative, or none that is known
        y = other.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(representation.reference(x).distance(y).sum(), y)
        assert bool(torch.isfinite(gradient).all())


def test_parallel_patches_everywhere_have_the_gradient_of_their_norms(generator):
    """One channel and patches of one pixel: all cosines are 1 whatever the image, and the kernel is that of norms."""
    arch = st.Architecture((st.Layer(1, 1.0, 1, kernels.ArcCosine(1)),))
    x, y = (part[:, :1] for part in images(generator))
    y = y.requires_grad_()
    (gradient,) = torch.autograd.grad(st.GramNTK(arch).reference(x).distance(y).sum(), y)
    linear = st.GramCKN(arch.replace("layers.*.kernel", kernels.Linear()))
    (expected,) = torch.autograd.grad(linear.reference(x).distance(y).sum(), y)
    assert torch.allclose(gradient, math.sqrt(2.0) * expected, rtol=1e-9)


@pytest.mark.parametrize("front_end", [st.front_ends.MeanRemoval(), st.front_ends.Gradient()], ids=repr)
def test_an_image_that_the_front_end_removes_has_a_finite_gradient(front_end, generator):
    x, _ = images(generator)
    for kind, kernel in ((st.GramCKN, kernels.Exponential()), (st.GramNTK, kernels.ArcCosine(1))):
        arch = st.Architecture(network(kernel, 2).layers, 0.8, front_end=front_end)
        y = torch.full_like(x, 0.3).requires_grad_()
        (gradient,) = torch.autograd.grad(kind(arch).reference(x).distance(y).sum(), y)
        assert bool(torch.isfinite(gradient).all())


def test_a_search_of_a_tangent_kernel_starts_from_a_flat_image(generator):
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    x[..., 2:5, 3:6] = 1.0  # a white square: most cosines are 1 or 0
    ntk = st.GramNTK(
        st.Architecture((st.Layer(1, 1.0, 1, kernels.ArcCosine(1)), st.Layer(3, 2.0, 1, kernels.ArcCosine(1))))
    )
    found = st.worst_case(
        ntk, x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator, starts=(Saturated(2),), steps=2
    )
    assert float(found.largest_found) > 0


def test_the_gradient_climbs(generator):
    """A step along it increases the distance as much as it promises: what worst-case search relies on."""
    x, y = images(generator, count=1)
    reference = REPRESENTATIONS[0].reference(x)
    y.requires_grad_()
    distance = reference.distance(y)
    (gradient,) = torch.autograd.grad(distance.sum(), y)
    step = 1e-4
    gain = (reference.distance((y + step * gradient / gradient.norm()).detach()) - distance).item()
    assert gain == pytest.approx(step * gradient.norm().item(), rel=1e-2)
    assert math.isfinite(gain)
