"""Ladders, certificates, operator norms, searches and certified radii give on a device what they give on the CPU."""

import pytest
import torch
from torch import nn

import stability as st
from stability import search
from stability.certificates import operator_weighted, perron_schur, schur
from stability.ladders.every_field import EveryField

SIZE = (8, 8)
ARCH = st.Architecture((st.Layer(3, 1.0), st.Layer(2, 2.0, 2)))
SLOW = pytest.mark.slow
RAY = {"displacement_norm": 1.0, "jacobian_norm": 0.5}
FEW = {"starts": (search.Saturated(1),), "kept": 1, "steps": 2, **RAY}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=2, size=SIZE):
    return st.grid.band_limit(torch.rand(count, 1, *size, generator=rng(1), dtype=torch.float64))


def field(count=2, b=0.2, size=SIZE):
    return st.control(st.FourierField.sample(size, cutoff=1, batch_shape=(count,), generator=rng()), jacobian_norm=b)


def ckn():
    return st.CKN.fit(ARCH, images(8), filters=(4, 4), generator=rng())


def head(phi):
    with torch.no_grad():
        rows = phi(images(3)).flatten(1)
    return rows, -0.5 * rows.square().sum(1)


NETWORKS = {
    "gram": lambda: st.GramCKN(ARCH),
    "linear": lambda: st.LinearGram(ARCH),
    "ckn": ckn,
    "cnn": lambda: st.cnn(ARCH, (4, 4), generator=rng(), dtype=torch.float64),
    "tangent kernel": lambda: st.GramNTK(
        st.Architecture(tuple(st.Layer(2, 1.0, 1, st.kernels.ArcCosine(1)) for _ in range(2)))
    ),
    "module": lambda: st.ModuleRepresentation(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()).double()),
}
THEORY = ["gram", "linear", "ckn", "cnn"]


@pytest.mark.parametrize(
    "name", ["gram", "ckn", *(pytest.param(n, marks=SLOW) for n in ("linear", "cnn", "tangent kernel"))]
)
def test_ladders(name, place):
    def climbed(phi, x, tau):
        found = st.ladder(phi, x, tau)
        return found, found.trivial, found.allowance, found.to_frame().drop(columns="seconds", errors="ignore")

    place.check(climbed, lambda: (NETWORKS[name](), images(), field()), rtol=1e-6, atol=1e-7)


def test_ladders_with_operator_norms_other_warps_and_one_image_of_many_fields(place):
    def climbed(phi, x, tau):
        norms = st.OperatorNorms(tau, generator=rng())
        return st.ladder(phi, x, tau, operator_norms=norms), st.ladder(phi, x, tau, warp=st.BilinearWarp())

    place.check(climbed, lambda: (ckn(), images(1), field()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", THEORY)
def test_bounds_of_every_field(name, place):
    def bounded(phi, x, a, b):
        every = EveryField(phi, x)
        return every(a, b), every.as_sampled(a, b)

    norms = torch.tensor([0.5, 1.0], dtype=torch.float64)
    place.check(bounded, lambda: (NETWORKS[name](), images(), norms, 0.3 * norms), rtol=1e-6)


def test_certificates(place):
    def certified(tau):
        found = st.FieldCertificates(tau)
        return (
            found.warp, found.jacobian, found.strain, found.anisotropy, found.volume, found.bend, found.density,
            found.density_gradient, found.commutator(1.5), found.patch_commutator(1.5, 3, 1.0),
            found.patch_energy(1.5, 3, 1.0), found.warp_difference(1.5), found.pooling_difference(1.5),
        )  # fmt: skip

    place.check(certified, lambda: (field(1),), rtol=1e-6)


def test_other_routes_to_certificates(place):
    def certified(tau):
        return operator_weighted(tau, 1.5, generator=rng()), schur(tau, 1.5), perron_schur(tau, 1.5)

    place.check(certified, lambda: (field(1),), rtol=1e-5)


@pytest.mark.parametrize("largest", [5000, 1])
def test_operator_norms(largest, place):
    def enclosed(tau):
        norms = st.OperatorNorms(tau, generator=rng(), largest_matrix=largest)
        return norms.commutator(1.5), norms.patch_commutator(1.5, 3), norms.warp_difference(1.5)

    place.check(enclosed, lambda: (field(1),), rtol=1e-4)


FIELDS = {
    "piecewise linear": (search.PiecewiseLinear(), ()),
    "spline": (search.Spline(4), (search.TranslationFree(),)),
    "fourier": (search.Fourier(2), (search.DivergenceFree(),)),
    "fixed border": (search.PiecewiseLinear(), (search.FixedBorder(1.0),)),
}


@pytest.mark.parametrize(
    "fields", [name if name == "fixed border" else pytest.param(name, marks=SLOW) for name in FIELDS]
)
def test_worst_cases_within_every_family_and_constraint(fields, place):
    family, constraints = FIELDS[fields]

    def searched(phi, x):
        return st.worst_case(phi, x, generator=rng(), fields=family, constraints=constraints, **FEW)

    place.check(searched, lambda: (ckn(), images()), rtol=1e-4)


@pytest.mark.parametrize("candidates", [search.Translations(4, 2), search.RigidMotions(2, 4, 1)], ids=repr)
def test_grids_of_candidates(candidates, place):
    def searched(phi, x):
        return st.worst_case(phi, x, generator=rng(), fields=candidates, **RAY)

    place.check(searched, lambda: (ckn(), images()), rtol=1e-6)


@pytest.mark.parametrize("name", ["ckn", *(pytest.param(name, marks=SLOW) for name in ("gram", "module"))])
def test_worst_cases_from_linearised_and_given_starts(name, place):
    def searched(phi, x, tau):
        starts = (search.Linearised(2, 1), search.Given(tau), search.Saturated(1))
        found = st.worst_case(phi, x, generator=rng(), **FEW | {"starts": starts})
        return found.largest_found, found.displacement_norm, found.to_frame(), found.field

    place.check(searched, lambda: (NETWORKS[name](), images(1), field(1)), rtol=1e-4)


@SLOW
def test_every_objective(place):
    def searched(phi, x, weight, bias):
        classes = st.AffineHead(weight, bias)
        objectives = [search.Angle(), search.DistanceOverPairs(2.0), search.Change(classes), search.Margin(classes, 0)]
        objectives += [
            search.AtFixedNorm(search.Distance()),
            search.Margin(classes, torch.tensor([0, 1], device="cpu")),
        ]
        return [
            st.worst_case(phi, x, generator=rng(), objective=one, **FEW | {"steps": 1}).largest_found
            for one in objectives
        ]

    def build():
        phi = ckn()
        return phi, images(), *head(phi)

    place.check(searched, build, rtol=1e-4)


@SLOW
@pytest.mark.parametrize("name", ["gram", "ckn", "module"])
def test_slopes_at_zero(name, place):
    def slopes(phi, x):
        return st.linearised(phi, x, generator=rng(), **RAY).to_frame()

    place.check(slopes, lambda: (NETWORKS[name](), images(1, (6, 6))), rtol=1e-2)


@SLOW
def test_curves_and_smallest_sizes(place):
    def searched(phi, x, level):
        curve = st.worst_case_curve(phi, x, generator=rng(), sizes=(0.5, 1.0), **FEW)
        target = search.Level(level)
        least = st.smallest_deformation(phi, x, target, generator=rng(), sizes=(0.5, 1.0), partial=True, **FEW)
        return curve.sizes.cpu(), curve.largest_found, least.size, least.along_ray

    level = torch.tensor([0.01, 0.1], dtype=torch.float64)
    place.check(searched, lambda: (ckn(), images(), level), here=False, rtol=1e-4)


@SLOW
def test_certified_radii(place):
    def radii(phi, x, weight, bias, labels):
        found = st.robustness_radius(
            phi, st.AffineHead(weight, bias), x, labels, generator=rng(), sizes=(1.0,), starts=(search.Saturated(1),),
            **RAY,
        )  # fmt: skip
        return found.certified, found.as_sampled, found.found, found.distance, found.predicted, found.curve()

    def build():
        phi = ckn()
        return phi, images(1), *head(phi), torch.arange(1)

    place.check(radii, build, rtol=1e-4)


def test_certified_radii_of_predictors(place):
    def radii(phi, x, labels):
        f = st.Predictor.fit(phi, x, labels, st.KernelRidge(0.1))
        found = st.robustness_radius(phi, f, x, **RAY)
        return found.certified, found.distance, found.curve()

    place.check(radii, lambda: (st.GramCKN(ARCH), images(3), torch.arange(3)), rtol=1e-4)


@pytest.mark.parametrize("name", ["gram", "linear"])
def test_what_predictors_lose(name, place):
    def lost(phi, x, labels):
        f = st.Predictor.fit(phi, x, labels, st.KernelRidge(0.1))
        for objective in (search.Change(f), search.Margin(f, labels[:1])):
            found = st.worst_case(phi, x[:1], generator=rng(), objective=objective, **FEW | {"steps": 1})
            yield found.largest_found, found.objective_floor > 0

    def build():
        return {"gram": st.GramCKN(ARCH), "linear": st.LinearGram(ARCH)}[name], images(3), torch.arange(3)

    place.check(lambda *given: list(lost(*given)), build, rtol=1e-4)
