"""observed <= every rung + printed allowances; translations below T; broken bounds are caught."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from oracles import LIPSCHITZ, first_gram, layer_gram, pooling, shifts

import stability as st
from stability import kernels
from stability.bounds import translation
from stability.bounds.theorem import Theorem
from stability.ladders import closed_forms
from stability.operators.pooling import sampling_gains

ROUND_OFF = 1e-9


@some.composite
def cases(draw):
    d = draw(some.sampled_from([1, 2]))
    size = draw(some.sampled_from([(24,), (32,)] if d == 1 else [(12, 12), (8, 16)]))
    depth = draw(some.integers(1, 3 if d == 1 else 2))
    layers = tuple(
        st.Layer(
            draw(some.integers(1, 4)),
            draw(some.sampled_from([0.0, 1.0, 2.0, 4.0, 8.0])),
            draw(some.sampled_from([1, 2])),
            draw(some.sampled_from(LIPSCHITZ)),
        )
        for _ in range(depth)
    )
    arch = st.Architecture(
        layers,
        draw(some.sampled_from([1.0, 2.0, None])),
        front_end=draw(some.sampled_from([None, st.front_ends.MeanRemoval()])),
    )
    name = draw(some.sampled_from(["fashion", "blobs"]))
    generator = torch.Generator().manual_seed(draw(some.integers(0, 10_000)))
    x = st.images.load(name, count=2, size=size)
    kind = draw(some.sampled_from(["smooth", "translation", "both"]))
    b = draw(some.sampled_from([1e-3, 0.05, 0.3, 0.9, 1.5]))
    field = st.control(st.FourierField.sample(size, cutoff=2, batch_shape=(2,), generator=generator), jacobian_norm=b)
    shift = st.Translation(torch.randn(2, d, generator=generator, dtype=torch.float64), size=size)
    tau = {"smooth": field, "translation": shift, "both": field + shift}[kind]
    warp = draw(some.sampled_from([st.BandLimitedWarp(), st.BilinearWarp(), st.IndexWarp()]))
    representation = draw(some.sampled_from([st.GramCKN, st.LinearGram]))
    return representation(arch), x, tau, warp


@pytest.mark.slow
@settings(max_examples=100)
@given(cases())
def test_every_rung_stands_above_the_observed_distance(case):
    phi, x, tau, warp = case
    ladder = st.ladder(phi, x, tau, warp=warp, certificates=False)
    assert not ladder.violation.any(), ladder.to_frame().T
    frame = ladder.to_frame()
    assert (frame.observed <= frame.trivial + frame.floor + ROUND_OFF).all()
    if not bool((tau.norms().jacobian.upper < 1).all()):
        assert frame.bound_closed_form.isin([math.inf]).any()
        assert torch.isfinite(ladder["trivial_norms"].value).all()
    total = sum(term.value for term in ladder["closed_form"].terms)
    finite = torch.isfinite(ladder["closed_form"].value)
    if finite.all():
        assert torch.allclose(torch.as_tensor(total), ladder["closed_form"].value, rtol=1e-9)


@pytest.mark.parametrize("kind", ["shift mode", "sum"])
def test_the_theorem_is_given_the_norms_of_the_field_and_no_smaller_ones(kind, generator):
    """Second route: suprema over a dense grid; the closed form must have seen at least them, and little more."""
    field = st.FourierField.sample((16, 16), cutoff=2, batch_shape=(2,), generator=generator)
    tau = st.control(field, displacement_norm=3.0, jacobian_norm=0.2, shift=(1.0, 1.0))
    if kind == "sum":
        tau = st.control(field, jacobian_norm=0.2) + st.Translation((1.5, -2.0), size=(16, 16))
    u = st.grid.coordinates((16, 16), oversample=16)
    v, jacobian, hessian = tau.displacement(u), tau.jacobian(u), tau.hessian(u)
    angles = torch.linspace(0, math.pi, 64, dtype=torch.float64)
    e = torch.stack([angles.cos(), angles.sin()], -1)
    seen = {
        "a": v.norm(dim=-1).amax((1, 2)),
        "b": torch.linalg.matrix_norm(jacobian, ord=2).amax((1, 2)),
        "H": torch.einsum("bxyijk,tj,tk->bxyti", hessian, e, e).norm(dim=-1).amax((1, 2, 3)),
        "divergence": jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax((1, 2)),
        "mean": v.mean((1, 2)).norm(dim=-1),
        "residual": (v - v.mean((1, 2), keepdim=True)).norm(dim=-1).amax((1, 2)),
    }
    forms = closed_forms(Theorem(st.Architecture((st.Layer(3, 2.0),))), tau, 2)
    for name, values in seen.items():
        for form, value in zip(forms, values.tolist(), strict=True):
            slack = 1.25 if (kind, name) == ("sum", "a") else 1.02  # a sum's own upper norm is a triangle inequality
            assert value * (1 - 1e-9) <= form.constants[name] <= slack * value


@pytest.mark.parametrize("stride", [1, 2])
def test_translations_stay_below_t_and_fall_with_the_pooling_scale(stride):
    x = st.images.load("fashion", count=3, size=(12, 12))
    tau = st.Translation((1.2, -0.7), size=(12, 12))
    c, observed = math.hypot(1.2, 0.7), []
    for scale in (1.0, 2.0, 4.0, 8.0):
        arch = st.Architecture((st.Layer(3, 2.0), st.Layer(3, scale, stride)))
        ladder = st.ladder(st.GramCKN(arch), x, tau, maps=False, certificates=False)
        exact = translation(c / scale)
        assert (ladder.observed <= exact + ladder.aliasing + ladder.allowance).all()
        if stride == 1:
            assert ladder["closed_form"].value.tolist() == pytest.approx([exact] * 3)
            assert ladder["closed_form"].status == "proof"
        observed.append(ladder.observed)
    assert (torch.stack(observed).diff(dim=0) < 0).all()


@pytest.mark.slow
def test_allowances_are_small_beside_what_is_observed(generator):
    """sigma_0 = 1 on band-limited real images: at most 2 per cent of the observed distance."""
    x = st.images.load("fashion", count=4, size=(28, 28))
    field = st.FourierField.sample((28, 28), cutoff=3, batch_shape=(4,), generator=generator)
    for tau in (st.control(field, displacement_norm=2.0), st.Translation((0.3, 0.1), size=(28, 28))):
        ladder = st.ladder(
            st.GramCKN(st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0, 2)))), x, tau, certificates=False
        )
        assert (ladder.allowance <= 0.02 * ladder.observed).all()
        assert (ladder.refinement > 0).all()
        assert (ladder.defect <= 0.01 * ladder.interpolation_error + 1e-14).all()


def wave(n: int) -> torch.Tensor:
    return torch.cos(2 * math.pi * torch.arange(n, dtype=torch.float64) / n).expand(1, 1, n, n).contiguous()


def test_translation_bound_is_attained_and_a_smaller_constant_is_caught():
    """cos(2 pi x / n) under a linear network with r = c / sigma near T's maximiser: observed = 0.99 T."""
    n, sigma, c = 26, 4.0, 4.0
    phi = st.LinearGram(st.Architecture((st.Layer(1, sigma),), antialiasing=None))
    ladder = st.ladder(phi, wave(n), st.Translation((c, 0.0), size=(n, n)))
    bound = ladder["closed_form"]
    assert 0.99 < (ladder.observed / bound.value).item() <= 1.0
    assert not ladder.violation.any()
    shrunk = tuple(
        dataclasses.replace(rung, value=0.95 * rung.value) if rung.name == "closed_form" else rung
        for rung in ladder.rungs
    )
    assert dataclasses.replace(ladder, rungs=shrunk).violation.all()


def test_a_wrong_constant_in_the_arithmetic_is_caught(monkeypatch):
    from stability.bounds import forms

    monkeypatch.setattr(forms, "translation", lambda r: 0.9 * translation(r))
    monkeypatch.setattr(forms, "c2", lambda b, d: 0.5 * math.exp(-0.5))
    phi = st.LinearGram(st.Architecture((st.Layer(1, 4.0),), antialiasing=None))
    assert st.ladder(phi, wave(26), st.Translation((4.0, 0.0), size=(26, 26))).violation.all()


def discrete_theorem(arch: st.Architecture, x: torch.Tensor, tau) -> float:
    """Theorem D for an index map, with matrices: sum_k R_{k-1} ||[P_k A_{k-1}, L] z_{k-1}|| + ||(A_n L - A_n) z_n||."""
    size = tuple(x.shape[1:])
    n = math.prod(size)
    pixels = torch.arange(n, dtype=torch.float64).view(1, 1, *size)
    moved = st.IndexWarp()(pixels, tau).flatten().long()
    warp = torch.eye(n, dtype=torch.float64)[moved]  # (L y)(u) = y(pi(u))
    raw = dataclasses.replace(arch, antialiasing=None)
    gram = first_gram(raw, x, x)  # z_0 = x
    total = 0.0
    for k, layer in enumerate(arch.layers):
        a = pooling(arch.scales[k], size)
        commutators = [(a @ warp)[i] - warp @ a[i] for i in shifts(size, layer.patch_size)]
        squared = sum(float((c @ gram["xx"] @ c.T).trace()) for c in commutators) / len(commutators)
        total += math.prod(arch.lipschitz[k:]) * math.sqrt(max(squared, 0.0))
        gram = {pair: a @ g @ a.T for pair, g in gram.items()}
        gram = layer_gram(gram, arch, k, size)
    a = pooling(arch.scales[-1], size)
    last = a @ warp - a
    return total + math.sqrt(max(float((last @ gram["xx"] @ last.T).trace()), 0.0))


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
@pytest.mark.parametrize("depth", [1, 2])
def test_discrete_theorem_holds_to_round_off_with_an_index_map(kernel, depth, generator):
    arch = st.Architecture(tuple(st.Layer(3, 1.5 * (k + 1), 1, kernel) for k in range(depth)))
    x = torch.randn(1, 2, 8, 8, generator=generator, dtype=torch.float64)
    phi = st.GramCKN(arch)
    field = st.FourierField.sample((8, 8), cutoff=2, generator=generator)
    for tau in (st.control(field, displacement_norm=3.0), st.control(field, displacement_norm=1.0)):
        moved = st.IndexWarp()(x, tau)
        assert not torch.equal(moved, x)
        observed = phi.distance(x, moved).item()
        assert observed <= discrete_theorem(arch, x[0], tau) * (1 + ROUND_OFF)
    whole = st.Translation((2.0, -1.0), size=(8, 8))  # no commutator: the last term alone, and it is the distance
    observed = phi.distance(x, st.IndexWarp()(x, whole)).item()
    assert observed == pytest.approx(discrete_theorem(arch, x[0], whole), rel=1e-7)


def test_sampling_gain_is_one_at_generous_scales_and_two_without_pooling():
    smooth = st.Architecture((st.Layer(3, 4.0, 2, kernels.Exponential(4.0)), st.Layer(3, 4.0)))
    assert sampling_gains(smooth, (16, 16)) == pytest.approx((1.0, 1.0), rel=1e-9)
    bare = st.Architecture((st.Layer(3, 0.0, 2),))
    assert sampling_gains(bare, (16, 16)) == pytest.approx((2.0,))  # every fourth pixel, weighted by 4


def test_trivial_norms_carry_no_rho_and_are_attained():
    """x at the pixels that a stride keeps, alternating, moved by one of them: 2 sqrt(s) ||x|| without pooling."""
    arch = st.Architecture((st.Layer(1, 0.0, 4, kernels.ArcCosine(0)),), antialiasing=None)
    x = torch.zeros(1, 1, 32, dtype=torch.float64)
    x[..., ::4] = (-1.0) ** torch.arange(8)
    x = st.grid.band_limit(x)
    ladder = st.ladder(st.GramCKN(arch), x, st.Translation((4.0,), size=(32,)), warp=st.IndexWarp())
    assert ladder["trivial_norms"].value.item() == pytest.approx(2 * 4**0.5)
    assert ladder.observed.item() > 2.5  # more than 2: the stride's gain is needed
    steep = st.Architecture((st.Layer(3, 2.0, 1, kernels.Exponential(4.0)),))
    assert st.ladder(st.GramCKN(steep), x, st.Translation((1.0,), size=(32,)))["trivial_norms"].value.item() == 2.0


def test_index_maps_may_be_longer_than_the_deformation_allows(generator):
    """The norm of an index map is not that of L_tau: the bound by norms then uses the measured ||W x||."""
    field = st.FourierField.sample((240,), cutoff=3, generator=generator)
    tau = st.control(field, jacobian_norm=0.08) + st.Translation((11.3,), size=(240,))
    pixels = torch.arange(240, dtype=torch.float64).view(1, 1, 240)
    moved = st.IndexWarp()(pixels, tau).flatten().long()
    matrix = torch.eye(240, dtype=torch.float64)[moved] - torch.eye(240, dtype=torch.float64)
    x = st.grid.band_limit(torch.linalg.svd(matrix).Vh[0].view(1, 1, 240))
    phi = st.LinearGram(st.Architecture((st.Layer(1, 0.0),), antialiasing=None))
    rung = st.ladder(phi, x, tau, warp=st.IndexWarp())["trivial_norms"]
    assert rung.scope == st.ladder(phi, x, tau, warp=st.IndexWarp())["trivial"].scope
    assert (phi.distance(x, st.IndexWarp()(x, tau)) / x.norm() <= rung.value + 1e-12).all()


def test_step_kernels_have_finite_trivial_bounds_and_allowances(generator):
    arch = st.Architecture((st.Layer(3, 2.0, 1, kernels.ArcCosine(0)), st.Layer(3, 2.0)))
    x = st.images.load("fashion", count=2, size=(16, 16))
    tau = st.control(st.FourierField.sample((16, 16), cutoff=2, generator=generator), jacobian_norm=0.1)
    ladder = st.ladder(st.GramCKN(arch), x, tau, certificates=False)
    assert torch.isfinite(ladder.allowance).all()
    assert torch.isfinite(ladder.trivial).all()
    assert (ladder.observed <= ladder.trivial).all()
    assert ladder["closed_form"].value.isinf().all()
    assert ladder["closed_form"].status == "not covered"
    still = st.ladder(st.GramCKN(arch), x, st.Translation((0.0, 0.0), size=(16, 16)), warp=st.IndexWarp())
    assert (still.trivial == 0).all()


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
def test_nothing_moves_and_nothing_is_violated_under_the_zero_field(kernel, generator):
    x = st.grid.band_limit(torch.rand(3, 1, 16, 16, generator=generator, dtype=torch.float64))
    for arch in (st.Architecture((st.Layer(3, 4.0, 1, kernel),)), st.Architecture((st.Layer(3, 2.0, 1, kernel),) * 2)):
        ladder = st.ladder(st.GramCKN(arch), x, st.Translation((0.0, 0.0), size=(16, 16)), refinement=False)
        assert not ladder.violation.any()
        assert (ladder.observed <= ladder.floor).all()


def test_the_grids_own_error_shows_in_the_refinement_and_not_for_linear_networks():
    """A pure tone, a smooth kernel, a pooling wider than the torus: what is left is aliasing of the kernel map."""
    x = torch.cos(math.pi / 2 * torch.arange(16, dtype=torch.float64))[None, None]
    arch, tau = st.Architecture((st.Layer(3, 64.0),)), st.Translation((0.25,), size=(16,))
    sampled = st.ladder(st.GramCKN(arch), x, tau)
    assert sampled.observed > sampled["closed_form"].value
    assert sampled.refinement > 0.5 * sampled.observed
    assert "finer grid" in sampled.meaning
    linear = st.ladder(st.LinearGram(arch), x, tau)
    assert linear.observed <= linear["closed_form"].value + linear.floor


def test_single_precision_images_are_taken(generator):
    x = st.grid.band_limit(torch.rand(1, 1, 16, 16, generator=generator))
    phi, tau = st.GramCKN(st.Architecture((st.Layer(3, 2.0),))), st.Translation((0.5, 0.0), size=(16, 16))
    single, double = st.ladder(phi, x, tau), st.ladder(phi, st.grid.band_limit(x.double()), tau)
    assert torch.allclose(single.observed, double.observed, rtol=1e-6)


def test_statuses_say_what_is_proved():
    x = st.images.load("blobs", count=1, size=(12, 12))
    tau = st.control(
        st.FourierField.sample((12, 12), cutoff=2, generator=torch.Generator().manual_seed(0)), jacobian_norm=0.1
    )

    def status(arch, warp=None, **options):
        return st.ladder(st.GramCKN(arch), x, tau, warp=warp, certificates=False, **options)["closed_form"].status

    plain = st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0)))
    assert status(plain) == "proof, numerically evaluated"
    assert status(plain, st.BilinearWarp(), refinement=False) == "estimate"
    assert status(plain.replace("layers.-1.subsampling", 2)) == "proof, numerically evaluated"
    assert status(plain.replace("layers.0.subsampling", 3)) == "estimate"  # scale 2 below spacing 3
    assert status(plain.replace("layers.-1.subsampling", 5)) == "estimate"  # 12 is no multiple of 5
    assert status(plain.replace("layers.-1.kernel", kernels.ArcCosine(0))) == "not covered"


def test_zero_image_gives_nan_and_no_violation():
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    ladder = st.ladder(st.GramCKN(st.Architecture((st.Layer(3, 2.0),))), x, st.Translation((1.0, 0.0), size=(8, 8)))
    assert ladder.observed.isnan().all()
    assert not ladder.violation.any()
    assert ladder.to_frame().isna()["observed"].all()


def test_one_image_goes_with_many_fields_and_wrong_batches_are_told(generator):
    x = st.images.load("blobs", count=3, size=(12, 12))
    phi = st.GramCKN(st.Architecture((st.Layer(3, 2.0),)))
    shifts_of_four = st.Translation(torch.randn(4, 2, generator=generator, dtype=torch.float64), size=(12, 12))
    assert st.ladder(phi, x[:1], shifts_of_four).observed.shape == (4,)
    with pytest.raises(ValueError, match="batch of fields"):
        st.ladder(phi, x, shifts_of_four)
    with pytest.raises(ValueError, match="GramCKN"):
        st.ladder(phi.architecture, x, shifts_of_four[0])
    with pytest.raises(ValueError, match="batch axis"):
        st.ladder(phi, x[0], shifts_of_four[0])
    assert "bound_closed_form" in repr(st.ladder(phi, x, shifts_of_four[0], refinement=False))
    with pytest.raises(KeyError, match="closed_form"):
        st.ladder(phi, x, shifts_of_four[0])["closed"]


def test_refinement_is_left_out_where_it_does_not_fit(monkeypatch):
    from stability import allowances

    monkeypatch.setattr(allowances, "AFFORDABLE_PAIRS", 1)
    x = st.images.load("blobs", count=1, size=(8, 8))
    phi = st.GramCKN(st.Architecture((st.Layer(3, 2.0), st.Layer(3, 2.0))))
    ladder = st.ladder(phi, x, st.Translation((1.0, 0.0), size=(8, 8)))
    assert ladder.refinement.isnan().all()
    assert torch.isfinite(ladder.allowance).all()


@pytest.mark.parametrize("boundary", [st.Periodic(), st.Zero()], ids=repr)
def test_tangent_and_step_kernels_have_a_bound_by_square_roots_beside_the_closed_form(boundary, generator):
    """The ratio to what is observed hardly depends on b: the order is right. A bound linear in b would be exceeded."""
    x = st.grid.band_limit(torch.randn(2, 1, 12, 12, generator=generator, dtype=torch.float64))
    plain = st.FourierField.sample((12, 12), cutoff=1, generator=generator)
    if isinstance(boundary, st.Zero):
        plain = st.CompactField.sample((12, 12), cutoff=1, border=3, generator=generator)
    ratios, linear = [], []
    for b in (1e-4, 1e-2, 0.3):
        tau = st.control(plain, jacobian_norm=b)
        for kernel, kind in ((kernels.ArcCosine(1), st.GramNTK), (kernels.ArcCosine(0), st.GramCKN)):
            layers = (st.Layer(3, 1.5, 1, kernel), st.Layer(3, 2.0, 1, kernel))
            ladder = st.ladder(kind(st.Architecture(layers, boundary=boundary)), x, tau, refinement=False)
            assert ladder["closed_form"].status == "not covered"
            rung = ladder["hoelder"]
            assert str(rung.status) == "proof, numerically evaluated"
            assert [term.name for term in rung.terms] == ["features", "last pooling"]
            torch.testing.assert_close(sum(term.value for term in rung.terms), rung.value)
            allowed = sum(part.nan_to_num(0.0) for part in rung.allowances.values())
            assert (ladder.observed <= rung.value + allowed).all()
            assert (ladder.observed <= ladder.trivial + ladder.floor).all()
            assert not ladder.violation.any()
            assert (ladder["trivial_norms"].value > 2.0).all()
            assert ("refinement" in ladder["trivial"].allowances) == (kind is st.GramNTK)
            ratios.append(float((rung.value / ladder.observed).min()))
            linear.append(float((rung.value[0] / b * 1e-4).item()))
    assert max(ratios) < 8.0 * min(ratios)
    assert linear[0] > 5.0 * linear[2]
    strided = st.Architecture.dyadic(depth=1, kernel=kernels.ArcCosine(1))
    assert st.ladder(st.GramNTK(strided), x, tau, refinement=False)["trivial"].status == "estimate"
    smooth = st.ladder(st.GramCKN(st.Architecture.dyadic(depth=1)), x, tau, refinement=False)
    assert "hoelder" not in [rung.name for rung in smooth.rungs]


def test_the_trivial_bound_of_a_tangent_kernel_is_met_by_any_two_images_and_a_lipschitz_one_is_not(generator):
    relu = kernels.ArcCosine(1)
    arch = st.Architecture((st.Layer(3, 1.0, 2, relu), st.Layer(1, 2.0, 1, relu)), antialiasing=None)
    phi, theorem = st.GramNTK(arch), st.GramNTK(arch).theorem
    gains = sampling_gains(arch, (8, 8))
    x = torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64)
    broken = 0
    for size in (1e-6, 1e-3, 0.1, 1.0):
        y = x + size * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        error, norms = (y - x).flatten(1).norm(dim=1), (x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)).sqrt()
        for seen, e, s in zip(phi.distance(x, y).tolist(), error.tolist(), norms.tolist(), strict=True):
            assert seen <= theorem.through(e, s, gains)
            broken += seen > math.sqrt(3.0) * math.prod(gains) * e
    assert broken
    largest = phi.norm(x) / x.flatten(1).norm(dim=1)
    assert (largest <= theorem.growth * math.prod(gains)).all()
    flat = torch.ones(1, 1, 8, 8, dtype=torch.float64)  # all patches are parallel: the bound is met
    whole = st.GramNTK(arch.replace("layers.*.subsampling", 1))
    assert float(whole.norm(flat)) / 8 == pytest.approx(whole.theorem.growth, rel=1e-9)
