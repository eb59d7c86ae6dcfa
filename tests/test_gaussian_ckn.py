"""The CKN of 2014: its fit, its Lipschitz bound, its bounds in a ladder, refusals."""

import pytest
import torch
from torch.nn.functional import normalize

import stability as st
from stability import kernels
from stability.operators.gaussian_fit import gaussian_fit
from stability.training import train

KERNEL = kernels.Exponential(2.0)
ARCH = st.Architecture((st.Layer(3, 1.0, 2, KERNEL), st.Layer(2, 2.0, 1, kernels.Exponential(1.0))), 0.5)


def units(generator, *shape):
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def test_sums_of_gaussians_approach_the_kernel_as_they_grow(generator):
    points, errors = units(generator, 500, 3), []
    for count in (5, 20, 60):
        w, eta, error = gaussian_fit(points[:300], points[:count], 2.0, pairs=2000, iterations=60, generator=generator)
        sharp = kernels.Exponential(4.0)((points[300:] @ w.T).clamp(-1, 1)) * eta.sqrt()
        exact = KERNEL((points[300:] @ points[300:].T).clamp(-1, 1))
        errors.append(float((exact - sharp @ sharp.T).square().mean().sqrt()))
        assert (eta > 0).all()
        assert error < 1
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


@pytest.mark.parametrize("alpha", [0.5, 2.0, 6.0])
def test_layers_expand_by_no_more_than_the_bound(alpha, generator):
    """Random pairs, far and near, and the Jacobian's norm itself; the bound is no empty word."""
    arch = st.Architecture((st.Layer(1, 0.0, 1, kernels.Exponential(alpha)),), None)
    net = st.GaussianCKN(arch, [units(generator, 7, 3)], [torch.rand(7, generator=generator).double() + 0.1])
    (rho,), (x, direction) = net.lipschitz, torch.randn(2, 400, 3, 2, generator=generator, dtype=torch.float64)
    for step in (1.0, 1e-3):
        y = x + step * direction
        assert (net.distance(x, y) <= rho * (x - y).flatten(1).norm(dim=1)).all()
    slopes = [
        torch.linalg.matrix_norm(
            torch.autograd.functional.jacobian(lambda z: net(z[None, :, None].expand(1, 3, 2))[0, :, 0], z), ord=2
        )
        for z in x[:60, :, 0]
    ]
    assert rho / 6 < max(slopes) <= rho


def test_bounds_hold_and_features_are_those_of_the_stages(generator):
    x = st.images.load("fashion", count=3, size=(16, 16))
    net = st.GaussianCKN.fit(ARCH, x, filters=(5, 6), generator=generator, pairs=500, iterations=5)
    tau = st.control(
        st.FourierField.sample((16, 16), cutoff=2, batch_shape=(3,), generator=generator), jacobian_norm=0.2
    )
    ladder = st.ladder(net, x, tau)
    assert not ladder.violation.any()
    stages = net.stages(x[0])
    assert torch.allclose(stages.pooled(2, stages.maps[2]), net(x[:1])[0], rtol=1e-9, atol=1e-12)
    before = [w.clone() for w in net.weights]
    train(net.requires_grad_(True), x, torch.tensor([0, 1, 2]), epochs=3, generator=torch.Generator().manual_seed(0))
    assert all(torch.allclose(w.norm(dim=1), torch.ones(len(w)).double()) for w in net.weights)
    assert not torch.allclose(net.weights[0], before[0])


def test_other_kernels_and_shapes_are_told(generator):
    other = st.Architecture((st.Layer(3, 1.0, 1, kernels.ArcCosine(1)),))
    with pytest.raises(ValueError, match="must be Exponential"):
        st.GaussianCKN.fit(other, torch.rand(1, 1, 8, 8), filters=(2,), generator=generator)
    with pytest.raises(ValueError, match="filters must have"):
        st.GaussianCKN.fit(ARCH, torch.rand(1, 1, 8, 8), filters=(2,), generator=generator)
    one = st.Architecture(ARCH.layers[:1])
    with pytest.raises(ValueError, match="positive"):
        st.GaussianCKN(one, [units(generator, 3, 9)], [torch.zeros(3).double()])


@pytest.mark.parametrize("boundary", [st.Periodic(), st.Zero()], ids=repr)
def test_features_are_those_of_the_stages_at_every_border(boundary, generator):
    x = st.images.load("fashion", count=3, size=(16, 16))
    layers = (st.Layer(3, 1.0, 1, KERNEL), st.Layer(3, 2.0, 1, KERNEL))
    arch = st.Architecture(layers, None if boundary == st.Zero() else 1.0, boundary=boundary)
    net = st.GaussianCKN.fit(arch, x, filters=(5, 6), generator=generator, pairs=200, iterations=3)
    bright = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    bright[..., 0] = 1.0  # what is beyond the left border shows on the right one
    stages = net.stages(bright[0])
    assert torch.allclose(stages.pooled(2, stages.maps[2]), net(bright)[0], rtol=1e-9, atol=1e-12)
