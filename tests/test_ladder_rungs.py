"""Rungs that look at the network's maps: the discrete theorem to round-off, energies, scopes."""

import dataclasses
import itertools
import math

import pytest
import torch
from oracles import LIPSCHITZ, first_gram, layer_gram, pooling, shifts

import stability as st
from stability import kernels
from stability.bounds.envelope import envelope_energy
from stability.bounds.field import FieldNorms
from stability.bounds.mixed import Norms, choices
from stability.bounds.rung import certifying
from stability.bounds.theorem import Theorem
from stability.certificates.suprema import FieldSuprema
from stability.deformations.series import FourierSeries
from stability.ladders import x_specific
from stability.ladders.closed import closed_forms
from stability.ladders.energies import spectra
from stability.ladders.grid_warp import grid_warp
from stability.ladders.spectral import spectral
from stability.ladders.x_specific import Telescope

ROUND_OFF = 1e-9


def fields(size, b, generator, count=1):
    field = st.FourierField.sample(size, cutoff=2, batch_shape=(count,), generator=generator)
    return st.control(field, jacobian_norm=b)


def dense_terms(arch, x, warp):
    """Second route: commutators, defects and ends from N x N matrices and brute-force Grams; no strides."""
    size, raw = tuple(x.shape[1:]), dataclasses.replace(arch, antialiasing=None)
    gram, commutators, defects = first_gram(raw, x, x)["xx"], [], []
    for k, layer in enumerate(arch.layers):
        a = pooling(arch.scales[k], size)
        parts = [(a @ warp)[i] - warp @ a[i] for i in shifts(size, layer.patch_size)]
        commutators.append(math.sqrt(sum(float((c @ gram @ c.T).trace()) for c in parts) / len(parts)))
        y = dict.fromkeys(("xx", "xy", "yy"), a @ gram @ a.T)
        joint = torch.cat([torch.eye(len(warp), dtype=torch.float64), warp])  # y, then W y
        patches = sum(y["xx"][i][:, i] for i in shifts(size, layer.patch_size)) / len(parts)
        both = joint @ patches @ joint.T
        norms = both.diagonal().clamp_min(0).sqrt()
        scale = norms[:, None] * norms
        cosine = (both / scale.clamp_min(1e-300)).clamp(-1, 1).fill_diagonal_(1.0)
        both = layer.kernel(cosine) * scale
        after = pooling(arch.scales[k + 1], size)
        difference = torch.cat([-after @ warp, after], dim=1)  # A (M W y - W M y)
        defects.append(math.sqrt(max(float((difference @ both @ difference.T).trace()), 0.0)))
        gram = layer_gram(y, arch, k, size)["xx"]
    a = pooling(arch.scales[-1], size)
    last = a @ warp - a
    return commutators, defects, math.sqrt(max(float((last @ gram @ last.T).trace()), 0.0))


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
@pytest.mark.parametrize("size", [(16,), (6, 10)], ids=str)
def test_every_term_is_that_of_dense_matrices(kernel, size, generator):
    arch = st.Architecture((st.Layer(3, 1.5, 1, kernel), st.Layer(2, 2.0, 1, kernel)))
    x = st.grid.band_limit(torch.randn(1, 2, *size, generator=generator, dtype=torch.float64))
    for warp, tau in (
        (st.IndexWarp(), fields(size, 0.4, generator)),
        (st.BilinearWarp(), fields(size, 0.2, generator)),
    ):
        ladder = st.ladder(st.GramCKN(arch), x, tau, warp=warp, refinement=False, certificates=False)
        matrix = grid_warp(tau[0], warp, 1)
        commutators, defects, end = dense_terms(arch, x[0], matrix)
        unit, rho = float(x.norm()), arch.lipschitz
        expected = [rho[0] * rho[1] * commutators[0] / unit, rho[1] * commutators[1] / unit, end / unit]
        rung = ladder["x_specific"]
        assert [float(term.value) for term in rung.terms] == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert float(rung.allowances["commutation defect"]) == pytest.approx(
            (rho[1] * defects[0] + defects[1]) / unit, rel=1e-5, abs=3e-7
        )
        assert ladder.observed <= rung.value + rung.allowances["commutation defect"] + rung.allowances["floor"]


@pytest.mark.parametrize("kernel", LIPSCHITZ, ids=repr)
@pytest.mark.parametrize("stride", [1, 2])
def test_index_maps_commute_with_kernel_maps_so_that_nothing_need_be_allowed(kernel, stride, generator):
    """On the grids of a strided network the index maps differ, and so do images and features; the defect stays 0."""
    arch = st.Architecture((st.Layer(3, 1.5, stride, kernel), st.Layer(3, 3.0, stride, kernel)))
    x = st.grid.band_limit(torch.randn(1, 1, 12, 12, generator=generator, dtype=torch.float64))
    for tau in (fields((12, 12), 0.5, generator), fields((12, 12), 0.5, generator, count=1)):
        ladder = st.ladder(st.GramCKN(arch), x, tau, warp=st.IndexWarp(), refinement=False, certificates=False)
        assert ladder.observed > 0
        assert ladder.commutation_defect < 1e-6
        assert ladder.observed <= ladder["x_specific"].value * (1 + ROUND_OFF) + ladder.commutation_defect


@pytest.mark.parametrize("warp", [st.BandLimitedWarp(), st.SplineWarp(), st.BilinearWarp(), st.IndexWarp()], ids=repr)
@pytest.mark.parametrize("d", [1, 2])
def test_observed_is_below_the_discrete_theorem_for_every_warp_stride_and_network(warp, d, generator):
    size = (24,) if d == 1 else (12, 12)
    x = st.images.load("fashion", count=2, size=size)
    arch = st.Architecture((st.Layer(3, 1.5, 2, kernels.Exponential(3.0)), st.Layer(2, 3.0)))
    networks = (
        st.GramCKN(arch),
        st.LinearGram(arch),
        st.CKN.fit(arch, x, filters=(4, 6), generator=generator),
        st.cnn(arch, widths=(4, 6), d=d, dtype=torch.float64, generator=generator),
    )
    for b in (0.05, 1.2):  # the discrete theorem needs no diffeomorphism
        tau = fields(size, b, generator, count=2)
        for phi in networks:
            ladder = st.ladder(phi, x, tau, warp=warp, refinement=False, certificates=False)
            for name in ("x_specific", "early_stop"):
                rung = ladder[name]
                assert (ladder.observed <= rung.value + sum(rung.allowances.values())).all()
            assert (ladder["early_stop"].value <= ladder["x_specific"].value + ladder.commutation_defect).all()


def test_a_linear_network_of_one_layer_under_a_translation_has_its_distance_for_a_bound(generator):
    x = st.images.load("fashion", count=2, size=(16, 16))
    tau = st.Translation((1.3, -0.4), size=(16, 16))
    phi = st.LinearGram(st.Architecture.dyadic(depth=2, subsampling=1))
    ladder = st.ladder(phi, x, tau, refinement=False, certificates=False)
    assert torch.allclose(ladder["x_specific"].value, ladder.observed, rtol=1e-6)
    assert (ladder["energy"].value >= ladder.observed).all()
    assert (ladder["energy"].value <= 1.2 * ladder.observed).all()  # |c| ||e . grad|| for the worst direction


def test_a_wrong_sign_of_tau_is_caught_by_translations(monkeypatch):
    from stability.ladders import layerwise

    x = st.images.load("fashion", count=1, size=(16, 16))
    tau = st.Translation((1.3, -0.4), size=(16, 16))
    phi = st.GramCKN(st.Architecture.dyadic(depth=2, subsampling=1))
    right = st.ladder(phi, x, tau, refinement=False, certificates=False)["x_specific"].value
    monkeypatch.setattr(layerwise, "grid_warp", lambda field, warp, spacing: grid_warp(-field, warp, spacing))
    wrong = st.ladder(phi, x, tau, refinement=False, certificates=False)
    assert wrong["x_specific"].value > 3 * right
    assert right < 1.01 * wrong.observed


def test_a_missing_area_factor_is_caught(monkeypatch):
    """Translations under strides: the last term is the distance, and without the cell's area half of it."""
    from stability.representations.stages import Stages

    x = st.images.load("fashion", count=1, size=(16, 16))
    phi = st.GramCKN(st.Architecture((st.Layer(3, 3.0, 2), st.Layer(3, 3.0, 2))))
    tau = st.Translation((2.0, 0.0), size=(16, 16))
    assert not st.ladder(phi, x, tau).violation.any()
    monkeypatch.setattr(Stages, "cell", lambda self, k: 1.0)
    assert st.ladder(phi, x, tau).violation.all()


def test_a_kernel_with_rho_above_one_passed_as_one_is_caught(monkeypatch):
    """A constant beside a tone that A_0 removes and, stretched, does not: a small angle, stretched by rho."""
    n = 64
    u = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    x = torch.stack([torch.full_like(u, 4.0), (24 * u).cos()])[None]
    phi = st.GramCKN(st.Architecture((st.Layer(1, 0.25, 1, kernels.Exponential(16.0)),), antialiasing=2.0))
    tau = 0.5 * st.FourierField.sample((n,), cutoff=1, generator=torch.Generator().manual_seed(0))
    tau = st.control(tau, jacobian_norm=0.5)
    assert phi.architecture.lipschitz == (4.0,)
    assert not st.ladder(phi, x, tau).violation.any()
    monkeypatch.setattr(st.Architecture, "lipschitz", property(lambda self: (1.0,)))
    assert st.ladder(phi, x, tau).violation.all()


def test_removed_energy_and_gradient_are_those_of_the_pooled_maps(generator):
    x = st.images.load("fashion", count=1, size=(12, 16))
    arch = st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 4.0)))
    phi = st.GramCKN(arch)
    stages = phi.stages(x[0])
    powers = spectra(stages).maps
    for k in range(1, 3):
        whole = stages.maps[k].square().sum() * stages.cell(k)
        assert powers[k].centred ** 2 == pytest.approx(
            float(whole - stages.maps[k].flatten(1).mean(1).square().sum() * 192), rel=1e-9
        )
    single = st.GramCKN(st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0))))
    stages, maps = single.stages(x[0]), single.stages(x[0]).maps
    powers = spectra(stages).maps
    for k, spectrum in enumerate(powers[:2]):
        kept = stages.entering(k + 1, maps[k]).square().sum()  # ||P|| = 1
        assert spectrum.removed**2 == pytest.approx(float(maps[k].square().sum() - kept), rel=1e-9)
    assert float(single.norm(x)) ** 2 == pytest.approx(float(stages.pooled(2, maps[2]).square().sum()), rel=1e-9)
    total = float(x.square().sum())
    removed = math.fsum(spectrum.removed**2 for spectrum in powers[:2])
    assert removed + float(maps[2].square().sum()) == pytest.approx(total, rel=1e-9)  # what is lost is lost once


def test_translated_bounds_small_shifts_sharply():
    x = st.images.load("fashion", count=1, size=(16, 16))
    phi = st.LinearGram(st.Architecture((st.Layer(1, 2.0),), antialiasing=None))
    spectrum = spectra(phi.stages(x[0])).maps[-1]
    directions = [(math.cos(t), math.sin(t)) for t in torch.linspace(0, math.pi, 13).tolist()]
    step = 1e-3
    seen = max(
        float(phi.distance(x, st.BandLimitedWarp()(x, st.Translation((step * a, step * b), size=(16, 16)))))
        for a, b in directions
    )
    assert seen == pytest.approx(spectrum.translated(step), rel=2e-2)
    assert seen <= spectrum.translated(step)
    assert spectrum.directional_gradient <= spectrum.gradient <= math.sqrt(2) * spectrum.directional_gradient


def test_the_energy_rung_holds_for_every_field_with_the_norms_and_the_x_specific_one_does_not():
    """One bump on a spot of light, one in the dark: the same norms, another distance."""
    u = torch.arange(28, dtype=torch.float64) - 12.0
    x = st.grid.band_limit(torch.exp(-(u[:, None] ** 2 + u**2) / 8)[None, None])
    phi = st.GramCKN(st.Architecture.dyadic(depth=2, subsampling=1))
    bumps = st.BumpField((1.0, 0.0), ((14.0, 14.0), (0.0, 0.0)), 5.0, (28, 28))
    ladder = st.ladder(phi, x, bumps, refinement=False, certificates=False)
    assert ladder.observed[0] > ladder["x_specific"].value[1] + ladder.commutation_defect[1] + ladder.floor[1]
    assert (ladder.observed <= ladder["energy"].value + ladder.allowance).all()
    assert ladder["energy"].value[0] == pytest.approx(float(ladder["energy"].value[1]))
    with pytest.raises(ValueError, match="every field"):
        certifying(ladder["x_specific"])
    with pytest.raises(ValueError, match="every field"):
        certifying(ladder["trivial"])
    assert certifying(ladder["closed_form"]) is ladder["closed_form"]
    estimate = dataclasses.replace(ladder["closed_form"], status=st.bounds.Status.ESTIMATE)
    with pytest.raises(ValueError, match="proof"):
        certifying(estimate)


def test_rungs_are_ordered_on_real_images(generator):
    x = st.images.load("fashion", count=3, size=(20, 20))
    phi = st.GramCKN(st.Architecture.dyadic(depth=2, subsampling=1))
    ladder = st.ladder(phi, x, fields((20, 20), 0.2, generator, count=3), refinement=False, certificates=False)
    values = [ladder[name].value for name in ("x_specific", "energy", "closed_form")]
    assert (ladder.observed <= values[0]).all()
    for low, high in itertools.pairwise(values):
        assert (low <= high).all()
    least = [ladder.least(rung) for rung in ladder.rungs]
    for rung, value in zip(ladder.rungs, least, strict=True):
        assert (value <= rung.value).all()
    assert (ladder.least(ladder["closed_form"]) <= ladder["trivial_norms"].value).all()


def test_the_ladder_of_a_shear_knows_that_it_preserves_volume(generator):
    wave = torch.tensor([[0.7, 0.0], [0.4, 0.0]], dtype=torch.float64)
    shear = FourierSeries(torch.tensor([[0, 1], [0, 2]]), wave, -wave, size=(16, 16))
    shear = (0.2 / float(shear.norms().jacobian.upper)) * shear
    arch = st.Architecture.dyadic(depth=3, subsampling=1)
    form, norms = closed_forms(Theorem(arch), shear, 1)[0], shear.norms()
    known = {
        "displacement_norm": norms.displacement.upper,
        "jacobian_norm": norms.jacobian.upper,
        "hessian_norm": norms.hessian.upper,
        "divergence_norm": norms.divergence.upper,
    }
    told = st.closed_form(arch, **known, volume_preserving=True)
    assert form.value == pytest.approx(told.value)
    assert form.value < 0.99 * st.closed_form(arch, **known).value
    ladder = st.ladder(
        st.LinearGram(arch),
        st.grid.band_limit(torch.randn(1, 1, 16, 16, generator=generator, dtype=torch.float64)),
        shear,
    )
    assert not ladder.violation.any()


def test_suprema_of_shears_that_are_known_beforehand_are_those_of_a_dense_grid():
    """Of waves across (1, 1) too; nothing is searched for what volume preservation says."""
    k = torch.tensor([[1, 1], [2, 2]])
    across = torch.tensor([[0.8, -0.8], [0.3, -0.3]], dtype=torch.float64)
    shear = FourierSeries(k, across, -0.5 * across, size=(16, 16))
    shear = (0.6 / float(shear.norms().jacobian.upper)) * shear
    known, u = FieldSuprema(shear), 16 * torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)).double()
    m = torch.eye(2, dtype=torch.float64) - shear.jacobian(u)
    s, determinant = torch.linalg.svdvals(m), torch.linalg.det(m)
    assert shear.volume_preserving
    for found, pointwise in (
        (known.strain, (s - 1 / s).abs().amax(1) * determinant.rsqrt()),
        (known.anisotropy, (s[:, 0] - s[:, 1]) * determinant.rsqrt()),
        (known.jacobian, torch.linalg.matrix_norm(shear.jacobian(u), 2) * determinant.rsqrt()),
    ):
        assert float(pointwise.max()) <= float(found) <= 1.25 * float(pointwise.max())
    assert float((determinant - 1).abs().max()) < 1e-13
    assert [float(end) for end in known.determinant] == [1.0, 1.0]
    assert float(known.volume) == float(known.bend) == float(known.density_gradient) == 0.0
    assert float(known.warp) == 1.0


def test_a_warp_that_does_not_commute_with_kernel_maps_is_explained_by_that(generator):
    """A blur for a warp commutes with pooling and patches, and with no kernel map: the commutators see nothing."""

    @dataclasses.dataclass(frozen=True)
    class Blur(st.BilinearWarp):
        def sample(self, images, points):
            return sum(images.roll(s, -1) for s in (-1, 0, 1)) / 3

    x = st.grid.band_limit(torch.randn(1, 1, 32, generator=generator, dtype=torch.float64))
    phi = st.GramCKN(st.Architecture((st.Layer(3, 0.5), st.Layer(3, 64.0)), antialiasing=None))
    tau = st.Translation((0.0,), size=(32,))
    ladder = st.ladder(phi, x, tau, warp=Blur(), refinement=False, certificates=False)
    rung = ladder["x_specific"]
    assert ladder.observed > 2 * rung.value
    assert ladder.observed <= rung.value + ladder.commutation_defect
    assert "commutation defect" in ladder.violation[0]


def test_stopping_early_is_stopping_at_the_best_layer():
    steps = Telescope((1.0, 2.0), (0.0, 0.0), (5.0, 1.5, 0.1), (0.0, 0.0, 0.0), (6.0, 2.0, 1.0), (3.0, 2.0))
    assert steps.value == pytest.approx(6 * 1.0 + 2 * 2.0 + 0.1)
    assert [steps.stopped(j) for j in range(3)] == pytest.approx([30.0, 6.0 + 2 * 1.5, 10.1])
    assert steps.early == (1, pytest.approx(9.0), 0.0)
    assert x_specific._times(math.inf, 0.0) == 0.0


def test_networks_without_maps_have_a_ladder_without_them(generator):
    x = st.images.load("fashion", count=1, size=(16, 16))
    tau = fields((16, 16), 0.1, generator)
    phi = st.GramCKN(st.Architecture.dyadic(depth=1))
    short = st.ladder(phi, x, tau, maps=False, refinement=False)
    assert [rung.name for rung in short.rungs] == ["trivial", "certificates", "closed_form", "trivial_norms"]
    assert short.commutation_defect.isnan().all()


@pytest.mark.parametrize("kernel", [kernels.Exponential(2.0), kernels.ArcCosine(1)], ids=repr)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_discrete_theorem_holds_with_zeros_beyond_the_border(kernel, stride, generator):
    layers = (st.Layer(3, 1.5, stride, kernel), st.Layer(2, 3.0, 1, kernel))
    arch = st.Architecture(layers, boundary=st.Zero())
    x = st.grid.band_limit(torch.randn(2, 1, 12, 12, generator=generator, dtype=torch.float64))
    for phi in (st.GramCKN(arch), st.CKN.fit(arch, x, filters=(5, 5), generator=generator)):
        for warp in (st.BandLimitedWarp(), st.IndexWarp()):
            ladder = st.ladder(
                phi, x, fields((12, 12), 0.5, generator, count=2), warp=warp, refinement=False, certificates=False
            )
            rung = ladder["x_specific"]
            assert (ladder.observed <= rung.value + sum(rung.allowances.values())).all()
            assert ladder["energy"].status == "not covered"
    maps = st.GramCKN(arch).stages(x[0]).maps
    norm = float(st.GramCKN(arch).norm(x[:1]))
    assert float(st.GramCKN(arch).stages(x[0]).pooled(2, maps[2]).norm()) * stride == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0, 2.0])
def test_the_spectrum_says_at_least_what_the_removed_energy_says(d, kappa):
    x = st.images.load("fashion", count=2, size=(24,) if d == 1 else (16, 16))
    for image in x:
        for one in spectra(st.GramCKN(st.Architecture.dyadic(depth=2, subsampling=1)).stages(image)).maps:
            plain = spectral(one, [Norms(math.sqrt(d), 1.0)], kappa)
            assert plain <= 1.0005 * st.bounds.joint_energy(kappa, d) * one.removed
            if kappa >= 1:
                assert plain <= 1.0005 * st.bounds.joint(kappa, d) * one.centred
            strain = spectral(one, [Norms(0.0, 1.0)], kappa)
            assert strain <= 1.01 * envelope_energy(0.0, 1.0, 0.0, kappa) * one.removed + 1e-12
            assert strain < plain


@pytest.mark.parametrize("kind", [st.FourierField, st.GradientField], ids=lambda kind: kind.__name__)
def test_no_commutator_on_a_map_is_above_its_spectral_bound(kind, generator):
    """Dense commutators on tones and noise, where the spectrum is sharpest; a third of the bound is not one."""
    size, sigma = (64,), 3.0
    u = torch.arange(64, dtype=torch.float64)
    tones = [torch.cos(2 * math.pi * m * u / 64) for m in (1, 2, 3, 5, 8)]
    maps = torch.stack([*tones, torch.randn(64, generator=generator, dtype=torch.float64)])
    a, least = pooling(sigma, size), math.inf
    for _ in range(20):
        tau = st.control(kind.sample(size, cutoff=3, generator=generator), jacobian_norm=0.2)
        warp = grid_warp(tau, st.BandLimitedWarp(), 1)
        b = float(tau.norms().jacobian.upper)
        for z in maps:
            own = spectra(st.LinearGram(st.Architecture((st.Layer(1, 1.0),), sigma)).stages(z[None])).maps[0]
            bound = spectral(own, choices(FieldNorms(1.0, b, d=1)), 0.0)
            seen = float((a @ warp @ z - warp @ a @ z).norm())
            assert seen <= bound
            least = min(least, bound / seen)
    assert least < 3.0
