"""Truncated poolings on a band of pairs: dense matrices of the same operators, a proved error, and broken bands."""

import pytest
import torch
from oracles import brute_force
from sweep_cases import spec

import stability as st
from stability import kernels
from stability.operators.pooling import pooling_matrix
from stability.operators.truncation import truncated_pooling_matrix, truncation_norms, truncation_radius
from stability.representations import pair_blocks
from stability.representations.band_choice import banded_cost, truncate
from stability.representations.band_program import BandedProgram, reaches
from stability.representations.pair_plan import PairPlan
from stability.representations.pair_program import PairProgram

CASES = [
    ((24,), (2,), (3,), kernels.Exponential()),
    ((9,), (2,), (1,), kernels.Exponential()),  # the last stride leaves a rest
    ((48,), (2, 2), (3, 2), kernels.ArcCosine(1)),
    ((64,), (2, 2, 1), (2, 2, 1), kernels.Exponential()),
    ((16, 6), (1,), (2,), kernels.ArcCosine(0)),
    ((24, 8), (2, 2), (1, 1), kernels.Exponential()),
    ((24, 6), (3, 2), (2, 1), kernels.Polynomial(2, 1.0)),
    ((20, 3), (1, 1, 1), (1, 2, 1), kernels.Exponential()),
    ((32, 8), (2, 2, 2), (1, 1, 0), kernels.ArcCosine(1)),
]


def network(strides: tuple[int, ...], kernel: kernels.Kernel, patch: int = 2) -> st.Architecture:
    return st.Architecture(tuple(st.Layer(patch, 1.0 + k, s, kernel) for k, s in enumerate(strides)))


def pair(size: tuple[int, ...], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.randn(2, 1, 2, *size, generator=generator, dtype=torch.float64) + 0.3
    return draw[0], draw[1]


def plan(arch: st.Architecture, size: tuple[int, ...], radii: tuple[int, ...]) -> PairPlan:
    return PairPlan(arch, size, 1, torch.device("cpu"), torch.float64, radii)


def evaluated(program: PairProgram, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    left, right = program.complete(program.plan.prepare(torch.cat([x, y])))
    return {"xx": left.squared_norm, "yy": right.squared_norm, "xy": program.kernels([(left, right)])[0]}


def apart(found: dict[str, float], truth: dict[str, float]) -> float:
    return max(abs(found[name] - truth[name]) for name in truth) / truth["xx"]


@pytest.mark.parametrize("small_blocks", [False, True])
@pytest.mark.parametrize(("size", "strides", "radii", "kernel"), CASES, ids=str)
def test_the_band_equals_dense_matrices_of_the_same_operators(
    size, strides, radii, kernel, small_blocks, generator, monkeypatch
):
    if small_blocks:
        monkeypatch.setattr(pair_blocks, "BLOCK_ENTRIES", 300)
    arch = network(strides, kernel, patch=3 if len(strides) == 2 and size[0] > 24 else 2)
    x, y = pair(size, generator)
    truth, given = brute_force(arch, x[0], y[0], radii), plan(arch, size, radii)
    assert apart(evaluated(BandedProgram(given), x, y), truth) <= 1e-12
    assert apart(evaluated(PairProgram(given), x, y), truth) <= 1e-12


@pytest.mark.parametrize("layer", [0, 1])
def test_a_radius_or_a_band_one_too_small_is_seen(layer, generator):
    arch, size, radii = network((2, 1), kernels.Exponential()), (24, 6), (2, 1)
    x, y = pair(size, generator)
    truth = brute_force(arch, x[0], y[0], radii)
    smaller = tuple(radius - (k == layer) for k, radius in enumerate(radii))
    assert apart(evaluated(BandedProgram(plan(arch, size, smaller)), x, y), truth) > 1e-6
    narrow = BandedProgram(plan(arch, size, radii))
    narrow.reaches = tuple(reach - (k == layer) for k, reach in enumerate(narrow.reaches))
    assert apart(evaluated(narrow, x, y), truth) > 1e-9


def test_a_band_of_all_rows_or_more_is_refused():
    arch = network((1,), kernels.Exponential())
    assert BandedProgram(plan(arch, (17,), (4,))).reaches == (8,)
    with pytest.raises(ValueError, match="radii must leave a band within 16 rows, got 17"):
        BandedProgram(plan(arch, (16,), (4,)))
    assert reaches((1, 2, 3), (3, 2, 5)) == (2 + 3 * (4 + 2 * 6), 4 + 2 * 6, 6)


@pytest.mark.parametrize(
    ("n", "sigma", "stride"), [(24, 1.0, 1), (24, 2.0, 2), (24, 0.7, 3), (25, 1.5, 2), (8, 0.0, 2)]
)
def test_norms_of_truncated_poolings_are_those_of_the_matrices(n, sigma, stride):
    full = pooling_matrix(n, sigma, stride)
    for radius in range(n // 2 + 1):
        kept = truncated_pooling_matrix(n, sigma, stride, radius)
        area = (n / len(full)) ** 0.5
        truth = [float(torch.linalg.matrix_norm(one, 2)) * area for one in (full - kept, kept)]
        found = truncation_norms(n, sigma, stride, radius)
        if n % stride:
            assert all(a >= b - 1e-14 for a, b in zip(found, truth, strict=True))
        else:
            assert found == pytest.approx(truth, rel=1e-12, abs=1e-14)
    least = truncation_radius(n, sigma, stride, 1e-2)
    assert truncation_norms(n, sigma, stride, least)[0] <= 1e-2
    assert least == 0 or truncation_norms(n, sigma, stride, least - 1)[0] > 1e-2


BANDED = [
    ((96, 12), st.Architecture((st.Layer(3, 1.5, 2), st.Layer(2, 3.0, 2)))),
    ((64, 16), st.Architecture((st.Layer(3, 1.5, 1, kernels.ArcCosine(1)),))),
    ((512,), st.Architecture((st.Layer(3, 2.0, 2, kernels.Exponential(2.0)), st.Layer(3, 4.0, 2)))),
]


@pytest.mark.parametrize(("size", "arch"), BANDED, ids=str)
@pytest.mark.parametrize("tolerance", [0.2, 0.02])
def test_distances_are_within_the_stated_error(size, arch, tolerance, generator):
    banded, exact = st.BandedCKN(arch, tolerance), st.GramCKN(arch)
    assert 0 < banded.choice(size).error <= tolerance
    x = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64)
    high = torch.ones(size[0], dtype=torch.float64)
    high[1::2] = -1.0  # the highest frequency, at which dropped taps of small scales add up
    for y in (x + 0.01 * torch.randn_like(x), x * high.view(-1, *[1] * (len(size) - 1)), torch.ones_like(x)):
        error = banded.approximation_error(x) + banded.approximation_error(y)
        off = (banded.distance(x, y) - exact.distance(x, y)).abs()
        assert off.item() <= error.item() <= 2 * tolerance * max(x.norm().item(), y.norm().item())
        assert abs(banded.norm(y) - exact.norm(y)).item() <= banded.approximation_error(y).item()


@pytest.mark.parametrize("antialiasing", [None, 1.0])
@pytest.mark.parametrize("kernel", [kernels.Exponential(), kernels.ArcCosine(1)], ids=repr)
@pytest.mark.parametrize("depth", [1, 2])
def test_patches_of_one_pixel_and_several_channels_are_read(depth, kernel, antialiasing, generator):
    arch = st.Architecture((st.Layer(1, 1.0, 1, kernel), st.Layer(3, 1.5, 1, kernel))[:depth], antialiasing)
    x, y = torch.rand(2, 1, 3, 48, 6, generator=generator, dtype=torch.float64)
    banded, exact = st.BandedCKN(arch, 1e-2), st.GramCKN(arch)
    assert banded.choice((48, 6)).truncation is not None
    off = banded.approximation_error(x) + banded.approximation_error(y)
    assert bool(((banded.distance(x, y) - exact.distance(x, y)).abs() <= off).all())
    assert torch.allclose(banded.norm(x), exact.norm(x), rtol=1e-2)


def test_the_error_of_one_layer_is_attained_by_its_worst_wave():
    """Without kernel maps or patches Phi' - Phi is A' - A, and its norm is reached at the frequency of the maximum."""
    arch, size = st.Architecture((st.Layer(1, 1.0, 1, kernels.Linear()),), antialiasing=None), (64,)
    banded, exact = st.BandedCKN(arch, 0.02), st.GramCKN(arch)
    assert banded.choice(size).truncation is not None
    ratios = []
    for k in range(33):
        x = torch.cos(2 * torch.pi * k * torch.arange(64, dtype=torch.float64) / 64)[None, None]
        ratios.append(((banded.norm(x) - exact.norm(x)).abs() / banded.approximation_error(x)).item())
    assert max(ratios) == pytest.approx(1.0, abs=1e-6)


def test_truncated_poolings_of_finer_grids_have_radii_of_their_own(generator):
    coarse = st.BandedCKN(st.Architecture((st.Layer(3, 2.0),)), 0.01)
    fine = coarse.refined(2)
    one, two = coarse.choice((64, 8)).truncation, fine.choice((128, 16)).truncation
    assert fine.tolerance == 0.01
    assert one is not None
    assert two is not None
    assert abs(two.radii[0] - 2 * one.radii[0]) <= 1
    x, y = pair((128, 16), generator)
    off = fine.distance(x, y) - st.GramCKN(coarse.network, 2).distance(x, y)
    error = fine.approximation_error(x) + fine.approximation_error(y)
    assert abs(off).item() <= error.item() <= 0.01 * (x.norm() + y.norm()).item() / 2  # a pixel's area is 1 / 4


def test_where_the_band_does_not_pay_all_pairs_are_computed_without_error(generator):
    arch = network((2, 2), kernels.Exponential())
    banded, exact = st.BandedCKN(arch, 1e-3), st.GramCKN(arch)
    x, y = pair((12, 12), generator)
    assert "all pairs, no error" in str(banded.choice((12, 12)))
    assert banded.approximation_error(x).item() == 0.0
    assert torch.equal(banded.distance(x, y), exact.distance(x, y))
    wild = network((1, 1), kernels.ArcCosine(0))  # no Lipschitz constant bounds what layer 2 makes of an error
    assert st.BandedCKN(wild, 0.1).choice((256,)).truncation is None


def test_gradients_are_those_of_the_truncated_network(generator):
    size, arch = BANDED[0]
    banded = st.BandedCKN(arch, 0.2)
    x, y = pair(size, generator)
    direction = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    y.requires_grad_()
    distance = banded.reference(x).distance(y)
    assert torch.allclose(distance.detach(), banded.distance(x, y.detach()), rtol=1e-10)
    (gradient,) = torch.autograd.grad(distance.sum(), y)
    ahead, behind = (banded.distance(x, y.detach() + t * direction) for t in (1e-5, -1e-5))
    assert (gradient * direction).sum().item() == pytest.approx((ahead - behind).item() / 2e-5, rel=1e-6)


def test_kernel_matrices_agree_with_distances_in_both_precisions(generator):
    size, arch = BANDED[1]
    banded = st.BandedCKN(arch, 0.02)
    x = torch.rand(3, 1, *size, generator=generator, dtype=torch.float64)
    matrix = st.kernel_matrix(banded, x)
    squared = matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1]
    assert torch.allclose(banded.distance(x[:1], x[1:2]), squared.sqrt(), rtol=1e-9)
    assert torch.allclose(banded.kernel_matrix(x, dtype=torch.float32).double(), matrix, rtol=2e-6)


def test_a_store_of_another_tolerance_is_refused(tmp_path, generator):
    arch = network((2,), kernels.Exponential())
    x = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    st.kernel_matrix(st.BandedCKN(arch, 0.1), x, store=tmp_path / "matrix")
    with pytest.raises(ValueError, match="representation must be that of the store"):
        st.kernel_matrix(st.BandedCKN(arch, 0.01), x, store=tmp_path / "matrix")


def test_no_bound_of_the_theorem_is_set_beside_truncated_poolings():
    banded = st.BandedCKN(st.Architecture((st.Layer(3, 2.0),)))
    x = st.images.load("blobs", count=1, size=(16, 16))
    with pytest.raises(ValueError, match="must have an architecture for bounds"):
        st.ladder(banded, x, st.Translation((0.5, 0.0), size=(16, 16)))


@pytest.mark.parametrize(("size", "arch"), BANDED, ids=str)
def test_counted_bytes_are_at_least_those_of_the_buffers_that_are_held(size, arch, generator):
    radii = truncate(arch, size, 0.1).radii
    program = BandedProgram(plan(arch, size, radii))
    evaluated(program, *pair(size, generator))
    assert program.memory.held <= banded_cost(arch, 2, size, radii).memory


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.BandedCKN(st.Architecture((st.Layer(3, 2.0),)), 0.0), "tolerance must be"),
        (lambda: st.BandedCKN(st.Architecture((st.Layer(3, 2.0),)), True), "tolerance must be"),
        (lambda: st.BandedCKN(st.Architecture((st.Layer(3, 2.0),), boundary=st.Zero())), "boundary must be"),
    ],
)
def test_bad_input_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_recommendation_considers_truncated_poolings(generator):
    arch, size = BANDED[0][1], BANDED[0][0]
    x = torch.rand(2, 1, *size, generator=generator, dtype=torch.float64)
    found = st.recommend_ckn(arch, x, accuracy=0.1, memory=1000.0, generator=generator, filters=[(2, 2)])
    assert isinstance(found.representation, st.BandedCKN)
    assert 0 < found.chosen.error <= 0.1
    assert "truncated poolings" in found.chosen.name
    exact = st.recommend_ckn(arch, x, accuracy=0.0, memory=1000.0, generator=generator, filters=[(2, 2)])
    assert isinstance(exact.representation, st.GramCKN)


def test_rows_of_a_sweep_carry_the_error_and_no_bound():
    arch = st.Architecture((st.Layer(3, 1.5),))
    banded = {"class_path": "stability.BandedCKN", "init_args": {"tolerance": 0.02}}
    frame = st.sweep(
        spec(
            images=st.ImagesSpec(name="fashion", count=1, size=(64, 12)),
            architecture=arch,
            vary={},
            representations=[banded, {"kind": "gram"}],
            deformations=[st.TranslationSpec(displacement_norm=[1.0], angles=2)],
            fields=1,
        )
    )
    approximate, exact = (frame[frame.representation == name] for name in ("BandedCKN", "gram"))
    off = approximate.distance_over_input_norm.to_numpy() - exact.distance_over_input_norm.to_numpy()
    assert (abs(off) <= approximate.approximation_error.to_numpy()).all()
    assert (approximate.approximation_error > 0).all()
    assert (approximate.approximation_error <= 0.04).all()
    assert exact.approximation_error.isna().all()
    assert set(approximate.status_closed_form) == {"not covered"}
    assert (approximate.bound_closed_form == float("inf")).all()
