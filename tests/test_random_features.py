"""Random features: without bias layer by layer, m^(-1/2), Lipschitz constants that are attained, refusals.

Statistical claims are seeded; a fresh seed would fail with at most the probability stated beside each.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import pooling, shifts
from sweep_cases import spec

import stability as st
from stability import kernels
from stability.representations import random_features
from stability.representations.random_maps import RandomFourier, random_map
from stability.representations.stages import homogeneous
from stability.warps.band_limited import refine

pytestmark = pytest.mark.slow

KERNELS = [
    kernels.ArcCosine(1), kernels.ArcCosine(0), kernels.LeakyReLU(0.3), kernels.Exponential(1.0),
    kernels.Exponential(2.37),
]  # fmt: skip
CONTINUOUS = [kernel for kernel in KERNELS if math.isfinite(kernel.lipschitz)]
DEVIATIONS = 5.0
"""Of a mean, in standard deviations: exceeded with probability 6e-7 (normal approximation) per entry compared."""


def draw(arch, widths, generator, **options) -> st.RandomFeatures:
    return st.RandomFeatures.draw(arch, widths, generator=generator, **options)


def psi(kernel, weight, z):
    """psi of the columns of z ``(p, N)``."""
    return torch.cat(random_map(kernel)(weight @ z, z.norm(dim=0, keepdim=True), len(weight)))


def homogeneous_kernel(kernel, z):
    norms = z.norm(dim=0)
    return homogeneous(kernel, z.T @ z, norms, norms)


# --- one layer --------------------------------------------------------------------------------------------------------


def estimates(kernel, z, rows, generator):
    """One-pair estimates of the kernel of the columns of z, ``(rows, N, N)``: each random vector alone."""
    weight = torch.randn(rows, len(z), generator=generator, dtype=torch.float64)
    halves = random_map(kernel)(weight @ z, z.norm(dim=0, keepdim=True), 1)
    return sum(half[:, :, None] * half[:, None, :] for half in halves)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_inner_products_of_a_layer_estimate_the_kernel_without_bias(kernel, generator):
    """25 entries, 5 standard deviations: fails with probability 1.5e-5 at most."""
    z = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    one = estimates(kernel, z, 100_000, generator)
    deviation = one.std(dim=0) / math.sqrt(len(one))
    assert ((one.mean(dim=0) - homogeneous_kernel(kernel, z)).abs() <= DEVIATIONS * deviation + 1e-12).all()


def test_the_same_statistic_tells_a_kernel_from_its_neighbour(generator):
    z = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    one = estimates(kernels.Exponential(1.0), z, 100_000, generator)
    deviation = one.std(dim=0) / math.sqrt(len(one))
    wrong = homogeneous_kernel(kernels.Exponential(1.05), z)
    assert ((one.mean(dim=0) - wrong).abs() > DEVIATIONS * deviation + 1e-12).any()


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_norms_are_kept_where_the_map_says_so_and_zero_goes_to_zero(kernel, generator):
    z = torch.cat([torch.randn(4, 5, generator=generator, dtype=torch.float64), torch.zeros(4, 1).double()], dim=1)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    mapped = psi(kernel, weight, z)
    assert mapped.shape == (6, 6)
    assert (mapped[:, -1] == 0).all()
    if random_map(kernel).keeps_norms:
        assert torch.allclose(mapped.norm(dim=0), z.norm(dim=0), rtol=1e-14)
    else:
        assert torch.allclose(mapped.norm(dim=0), (weight @ z).norm(dim=0) / math.sqrt(3), rtol=1e-14)
    assert torch.allclose(psi(kernel, weight, 3.0 * z), 3.0 * mapped)  # homogeneous


@pytest.mark.parametrize("kernel", CONTINUOUS, ids=repr)
@pytest.mark.parametrize(("rows", "entries"), [(3, 8), (40, 4)])
def test_the_lipschitz_constant_is_never_exceeded_and_is_attained(kernel, rows, entries, generator):
    weight = torch.randn(rows, entries, generator=generator, dtype=torch.float64)
    _, values, right = torch.linalg.svd(weight)
    own = random_map(kernel)
    rho = own.lipschitz(float(values[0]) / math.sqrt(rows))
    z = torch.randn(entries, 4000, generator=generator, dtype=torch.float64)
    step = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    for size in (1e-3, 1.0, 10.0):
        moved = z + size * step
        change = (psi(kernel, weight, moved) - psi(kernel, weight, z)).norm(dim=0)
        assert (change <= rho * (moved - z).norm(dim=0) * (1 + 1e-9)).all()
    top, other = right[0][:, None], right[1][:, None]
    start = other if isinstance(own, RandomFourier) else top  # across the sphere, or along the ray
    size = 1e-6
    change = (psi(kernel, weight, start + size * top) - psi(kernel, weight, start)).norm() / size
    assert float(change) == pytest.approx(own.lipschitz(float(values[0]) / math.sqrt(rows)), rel=1e-5) or rho == 1.0


# --- networks ---------------------------------------------------------------------------------------------------------


def dense(phi: st.RandomFeatures, x: torch.Tensor) -> torch.Tensor:
    """A_n psi_n(P_n ...) by dense matrices over all positions, ``(m_n, positions)``; x ``(C, *size)``."""
    arch, size, spacing = phi.architecture, tuple(x.shape[1:]), 1
    maps = x.flatten(1) @ pooling(arch.antialiasing or 0.0, size).T
    for layer, weight in zip(arch.layers, phi.weights, strict=True):
        index = shifts(size, layer.patch_size)
        patches = torch.cat([maps[:, i] for i in index]) / math.sqrt(len(index))  # offsets outer, channels inner
        maps = psi(layer.kernel, weight, patches)
        positions = itertools.product(*map(range, size))
        keep = [i for i, u in enumerate(positions) if all(c % layer.subsampling == 0 for c in u)]
        maps = maps @ pooling(layer.pooling_scale / spacing, size)[keep].T
        size, spacing = tuple(math.ceil(n / layer.subsampling) for n in size), spacing * layer.subsampling
    return maps


@pytest.mark.parametrize("size", [(8, 12), (16,)], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_features_are_those_of_dense_matrices_however_many_rows_are_held(kernel, size, generator, monkeypatch):
    arch = st.Architecture((st.Layer(3, 1.5, 2, kernel), st.Layer(2, 2.0, 2, kernels.Exponential(2.0))))
    phi = draw(arch, (6, 10), generator, channels=2, d=len(size))
    x = torch.randn(2, 2, *size, generator=generator, dtype=torch.float64)
    features = phi(x)
    assert torch.allclose(features[0].flatten(1), dense(phi, x[0]), atol=1e-12)
    area = 4 ** len(size)
    assert torch.allclose(phi.norm(x)[1], math.sqrt(area) * dense(phi, x[1]).norm())
    monkeypatch.setattr(random_features, "BLOCK", 1)
    assert torch.allclose(phi(x), features, atol=1e-14)
    stages = phi.stages(x[0])
    assert torch.allclose(stages.pooled(2, stages.maps[2]), features[0], atol=1e-12)


@pytest.mark.parametrize("kernel", [kernels.ArcCosine(1), kernels.ArcCosine(0), kernels.Exponential()], ids=repr)
def test_the_second_layer_estimates_without_bias_the_kernel_of_the_maps_that_enter_it(kernel, generator):
    """W_1 is fixed, W_2 drawn 300 times; 3 entries, 5 standard deviations: fails with probability 2e-6 at most."""
    arch = st.Architecture((st.Layer(3, 1.0, 1, kernels.ArcCosine(1)), st.Layer(2, 1.0, 2, kernel)))
    x = torch.rand(2, 1, 6, 4, generator=generator, dtype=torch.float64)
    first = draw(arch, (8, 16), generator)
    index, area = shifts((6, 4), 2), 4
    positions = list(itertools.product(range(6), range(4)))
    rows = pooling(1.0, (6, 4))[[i for i, u in enumerate(positions) if all(c % 2 == 0 for c in u)]]
    maps = first.layers(x)[0].flatten(2)
    z = torch.cat([torch.cat([y[:, i] for i in index]) / 2.0 for y in maps], dim=1)  # (32, 48)
    gram = homogeneous_kernel(kernel, z).view(2, 24, 2, 24)
    exact = torch.einsum("qn,inkm,qm->ik", rows, gram, rows) * area
    found = torch.stack([
        st.RandomFeatures(arch, [first.weights[0], draw(arch, (8, 16), generator).weights[1]]).kernel_matrix(x)
        for _ in range(300)
    ])  # fmt: skip
    deviation = found.std(dim=0) / math.sqrt(len(found))
    assert ((found.mean(dim=0) - exact).abs() <= DEVIATIONS * deviation + 1e-12).all()


def slope(arch, x, widths, groups, per_group, generator) -> tuple[float, float]:
    """Slope of log root-mean-square error of the distance over log m, and its standard error over groups of draws."""
    exact = st.GramCKN(arch).distance(x[:1], x[1:])
    logs = []
    for _ in range(groups):
        errors = [
            [float(draw(arch, (m, m), generator, d=1).distance(x[:1], x[1:]) - exact) for _ in range(per_group)]
            for m in widths
        ]
        logs.append(np.log(np.sqrt(np.mean(np.square(errors), axis=1))))
    slopes = [np.polyfit(np.log(widths), row, 1)[0] for row in logs]
    return float(np.mean(slopes)), float(np.std(slopes, ddof=1) / math.sqrt(groups))


@pytest.mark.parametrize("kernel", [kernels.ArcCosine(1), kernels.ArcCosine(0), kernels.Exponential()], ids=repr)
def test_distances_of_two_layers_converge_at_the_rate_of_the_root_of_the_width(kernel, generator):
    """-1/2 within 5 standard errors, known to a tenth: fails with probability 2e-3 (t distribution, 7 degrees)."""
    arch = st.Architecture((st.Layer(2, 1.0, 2, kernel),) * 2)
    x = torch.rand(2, 1, 12, generator=generator, dtype=torch.float64)
    found, error = slope(arch, x, (32, 128, 512), 8, 8, generator)
    assert error < 0.1
    assert abs(found + 0.5) <= 5.0 * error


def test_a_black_image_has_norm_zero_and_gradients_at_black_patches_are_finite(generator):
    for kernel in KERNELS:
        phi = draw(st.Architecture((st.Layer(3, 1.0, 2, kernel),), antialiasing=None), (16,), generator)
        black = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
        assert phi.norm(black).item() == 0.0
        x = black.clone()
        x[..., 2, 2] = 1.0
        x.requires_grad_()
        value = phi(x).square().sum()
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
            assert gradient is None or torch.isfinite(gradient).all()


def test_the_same_generator_gives_the_same_features_and_refined_ones_tend_to_their_limit(generator):
    arch = st.Architecture.dyadic(depth=2)
    one, two = (draw(arch, (8, 8), torch.Generator().manual_seed(3)) for _ in range(2))
    x = st.images.load("blobs", count=1, size=(32, 32))
    y = st.images.load("blobs", count=2, size=(32, 32))[1:]
    assert torch.equal(one(x), two(x))
    fine = refine(x, 2, 2), refine(y, 2, 2)
    assert one.refined(2).distance(*fine).item() == pytest.approx(one.distance(x, y).item(), rel=2e-2)


# --- ladders and sweeps -----------------------------------------------------------------------------------------------


def test_every_rung_stands_above_what_is_observed(generator):
    arch = st.Architecture((st.Layer(3, 2.0), st.Layer(2, 3.0, kernel=kernels.ArcCosine(1))))
    phi = draw(arch, (32, 64), generator)
    x = st.images.load("fashion", count=2, size=(16, 16))
    tau = st.FourierField.sample((16, 16), cutoff=2, batch_shape=(2,), generator=generator)
    tau = st.control(tau, displacement_norm=1.0, jacobian_norm=0.3)
    ladder = st.ladder(phi, x, tau)
    assert {"x_specific", "early_stop", "energy", "closed_form"} <= {rung.name for rung in ladder.rungs}
    assert not ladder.violation.any(), ladder.to_frame().T


def test_a_sweep_holds_random_features_of_two_widths_and_leaves_the_step_uncovered():
    frame = st.sweep(
        spec(
            vary={"layers.*.kernel": [kernels.Exponential(), kernels.ArcCosine(0)]},
            representations=[
                st.GramSpec(),
                st.RandomFeaturesSpec(widths=(16, 32)),
                {"kind": "random_features", "widths": [64, 128]},
            ],
            deformations=[st.TranslationSpec(displacement_norm=1.0, angles=2)],
        )
    )
    mine = frame[frame.representation == "random_features"]
    assert set(mine.filters) == {"16-32", "64-128"}
    step = mine["layers.*.kernel"].str.startswith("arc")
    assert (mine[step].status_closed_form == "not covered").all()
    assert (mine[~step].distance_over_input_norm <= mine[~step].bound_closed_form).all()
    x = st.images.load("fashion", count=2, size=(16, 16))
    phi = draw(st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0))), (16, 32), torch.Generator().manual_seed(0))
    y = st.BandLimitedWarp()(x, st.Translation((1.0, 0.0), size=(16, 16)))
    rows = mine[~step & (mine.filters == "16-32") & (mine.field_seed == 0)]
    assert rows.distance.tolist() == pytest.approx(phi.distance(x, y).tolist())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: draw(st.Architecture.dyadic(depth=2), (8,), g), "one number per layer"),
        (lambda g: draw(st.Architecture.dyadic(depth=1), (7,), g), "even"),
        (lambda g: draw(st.Architecture.dyadic(depth=1), (8,), g, channels=0), "channels"),
        (lambda g: draw(st.Architecture.dyadic(depth=1), (8,), g, d=3), "d must be"),
        (lambda g: draw(st.Architecture.dyadic(depth=1, kernel=kernels.Linear()), (8,), g), "ArcCosine, LeakyReLU"),
        (lambda g: draw(st.Architecture.dyadic(depth=1), (8,), g)(torch.zeros(1, 3, 8, 8).double()), "entries"),
        (lambda g: st.RandomFeatures(st.Architecture.dyadic(depth=1), []), "one matrix per layer"),
        (lambda g: spec(representations=[{"kind": "random_features", "widths": [3, 4]}]), "even"),
        (lambda g: spec(representations=[{"kind": "random_features", "widths": [4]}]), "widths must have one"),
        (lambda g: spec(representations=[{"kind": "random_features", "widths": [4, 4]}],
                        vary={"layers.0.kernel": [kernels.InversePolynomial()]}), "ArcCosine, LeakyReLU"),
        (lambda g: spec(representations=[{"kind": "random_features", "widths": [4, 4]}] * 2), "differ in name"),
    ],
)  # fmt: skip
def test_wrong_features_are_told(make, message, generator):
    with pytest.raises(ValueError, match=message):
        make(generator)
