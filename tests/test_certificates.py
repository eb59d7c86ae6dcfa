"""Certificates of given fields against operator norms of small dense compressions, laws, and broken certificates."""

import itertools
import math

import numpy as np
import pytest
import torch

import stability as st
from stability import bounds
from stability.bounds.field import FieldNorms
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, pooling_commutator
from stability.bounds.rung import Status
from stability.certificates import FieldCertificates, operator_weighted, perron_schur, schur
from stability.certificates.lanczos import largest_eigenvalue, shortfall
from stability.certificates.paths import path_integral
from stability.certificates.shifts import offsets, shift
from stability.certificates.suprema import FieldSuprema

pytestmark = pytest.mark.slow

SIZES = {1: (32,), 2: (16, 16)}
MODES = {1: (20, 34, 1536), 2: (4, 7, 32)}  # modes in, modes out, nodes per axis
SIGMAS = {1: (1.5, 4.0), 2: (1.5, 3.0)}
FAMILIES = {
    "fourier": lambda size, rng: st.FourierField.sample(size, cutoff=2, generator=rng),
    "gradient": lambda size, rng: st.GradientField.sample(size, cutoff=2, generator=rng),
    "divergence_free": lambda size, rng: st.DivergenceFreeField.sample(size, cutoff=2, generator=rng),
    "spline": lambda size, rng: st.SplineField.sample(size, lattice=5, generator=rng),
    "bump": lambda size, rng: st.BumpField.sample(size, generator=rng),
    "compact": lambda size, rng: st.CompactField.sample(size, cutoff=1, edge=0.0, generator=rng),
    "piecewise_linear": lambda size, rng: st.PiecewiseLinearField.sample(size, cutoff=2, lattice=size, generator=rng),
    "sum": lambda size, rng: (
        st.FourierField.sample(size, cutoff=1, generator=rng) + st.Translation((2.0,) * len(size), size)
    ),
}  # fmt: skip
PLANE_SLOW = [1, pytest.param(2, marks=pytest.mark.slow)]
QUICK = {("fourier", 1), ("piecewise_linear", 1), ("divergence_free", 2)}
CASES = [
    pytest.param(name, d, marks=() if (name, d) in QUICK else pytest.mark.slow)
    for name, d in itertools.product(FAMILIES, (1, 2))
    if (name, d) not in {("divergence_free", 1), ("compact", 2), ("piecewise_linear", 2)}
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def steep(field, b):
    return field * (b / field.norms().jacobian.upper)


def fourier(size, b, cutoff=2, seed=0, count=None):
    shape = () if count is None else (count,)
    return steep(st.FourierField.sample(size, cutoff=cutoff, batch_shape=shape, generator=generator(seed)), b)


class Truth:
    """L of one field between Fourier modes, by quadrature: its compressions' norms are never above the true ones."""

    def __init__(self, field, modes=None):
        few, many, nodes = modes or MODES[field.d]
        sides = np.array(field.size[::-1], dtype=float)
        grids = np.meshgrid(*[(np.arange(nodes) + 0.5) * side / nodes for side in sides], indexing="ij")
        u = np.stack(grids, -1).reshape(-1, field.d)
        self.k, self.m = (
            np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * field.d, indexing="ij"), -1).reshape(-1, field.d)
            * (2 * math.pi / sides)
            for n in (few, many)
        )
        tau = field.displacement(torch.from_numpy(u)).numpy()
        self.L = np.exp(-1j * self.m @ u.T) @ np.exp(1j * (u - tau) @ self.k.T) / len(u)
        self.identity = (np.abs(self.m[:, None] - self.k) < 1e-9).all(-1)

    def symbols(self, sigma):
        return (np.exp(-0.5 * sigma**2 * (w**2).sum(1)) for w in (self.m, self.k))

    def norms(self, sigma, patch_size=3, spacing=1.0):
        """All quantities by the names of ``FieldCertificates``."""
        outer, inner = self.symbols(sigma)
        start = -((patch_size - 1) // 2)
        places = itertools.product(range(start, start + patch_size), repeat=self.k.shape[1])
        offsets = spacing * np.array(list(places), dtype=float)
        stacked = np.concatenate([
            np.exp(1j * self.m @ c)[:, None] * outer[:, None] * self.L - self.L * (inner * np.exp(1j * self.k @ c))
            for c in offsets
        ]) / math.sqrt(len(offsets))  # fmt: skip
        moving = (self.k != 0).any(1)
        matrices = {
            "commutator": outer[:, None] * self.L - self.L * inner,
            "patch_commutator": stacked,
            "patch_energy": stacked[:, moving] / np.sqrt(1 - inner[moving] ** 2),
            "pooling_difference": outer[:, None] * (self.L - self.identity),
            "warp_difference": (self.L - self.identity) * inner,
        }
        norms = {name: math.sqrt(np.linalg.eigvalsh(one.conj().T @ one)[-1].clip(0)) for name, one in matrices.items()}
        return norms | {"warp": np.linalg.norm(self.L, 2)}


def certified(certificates, sigma, patch_size=3, spacing=1.0):
    return {
        "commutator": certificates.commutator(sigma),
        "patch_commutator": certificates.patch_commutator(sigma, patch_size, spacing),
        "patch_energy": certificates.patch_energy(sigma, patch_size, spacing),
        "pooling_difference": certificates.pooling_difference(sigma),
        "warp_difference": certificates.warp_difference(sigma),
        "warp": certificates.warp,
    }


@pytest.mark.parametrize(("name", "d"), CASES)
def test_operator_norms_stay_below_their_certificates(name, d):
    field = steep(FAMILIES[name](SIZES[d], generator(3)), 0.5)
    certificates, truth = FieldCertificates(field), Truth(field)
    for sigma, e in zip(SIGMAS[d], (2, 3), strict=True):
        found = certified(certificates, sigma, e)
        for key, norm in truth.norms(sigma, e).items():
            assert norm <= float(found[key].value) + 1e-9, key
            assert found[key].status in (Status.PROOF, Status.NUMERICAL)


@pytest.mark.parametrize("d", PLANE_SLOW)
def test_no_certificate_exceeds_the_closed_form_of_the_same_norms(d):
    field = fourier(SIZES[d], torch.tensor([0.05, 0.3, 0.9], dtype=torch.float64), count=3)
    norms, certificates, sigma = field.norms(), FieldCertificates(field), 2.0
    radius = math.sqrt(d * 8 / 12)
    for i in range(3):
        a, b, h = (float(end.upper[i]) for end in (norms.displacement, norms.jacobian, norms.hessian))
        known = FieldNorms(a, b, h, divergence=float(norms.divergence.upper[i]), d=d)
        found = {name: float(one.value[i]) for name, one in certified(certificates, sigma).items()}
        assert found["commutator"] <= pooling_commutator(known, sigma).value
        assert found["patch_commutator"] <= patch_commutator(known, sigma, radius, symmetric=True).value
        assert found["patch_energy"] <= patch_energy(known, sigma, radius).value
        assert found["pooling_difference"] <= last_pooling(known, sigma, a).value
        assert found["warp_difference"] <= bounds.c2(b, d) * a / sigma
        assert found["warp"] <= known.warp


@pytest.mark.parametrize("d", PLANE_SLOW)
def test_certificates_follow_tau_at_another_resolution(d):
    """tau_2(2 u) = 2 tau(u), sigma and spacings doubled: the same operators."""
    field = fourier(SIZES[d], 0.3)
    coarse, fine = (FieldCertificates(one) for one in (field, field.refined(2)))
    pairs = {
        "commutator": (coarse.commutator(2.0), fine.commutator(4.0)),
        "patch_energy": (coarse.patch_energy(2.0, 3, 1.0), fine.patch_energy(4.0, 3, 2.0)),
        "warp_difference": (coarse.warp_difference(2.0), fine.warp_difference(4.0)),
    }
    for name, (one, two) in pairs.items():
        assert float(one.value) == pytest.approx(float(two.value), rel=2e-3), name


def test_translations_have_no_commutator_and_their_exact_difference():
    field = st.Translation(torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64), (16, 16))
    found = certified(FieldCertificates(field), 2.0)
    for name in ("commutator", "patch_commutator", "patch_energy"):
        assert found[name].value.tolist() == [0.0, 0.0]
    for name in ("pooling_difference", "warp_difference"):
        assert found[name].value.tolist() == [bounds.translation(2.5), 0.0]
    assert found["warp"].value.tolist() == [1.0, 1.0]


def test_a_constant_is_split_off():
    field, sigma = fourier((32,), 0.1, cutoff=1), 4.0
    moved = st.FourierField(field.modes, field.cosine, field.sine, size=(32,), mean=torch.full((1,), 9.0))
    found, rest = (FieldCertificates(one).pooling_difference(sigma) for one in (moved, field))
    assert found.forms[0].endswith(", split")
    assert float(found.value) <= float(rest.value) + bounds.translation(9.0 / sigma) + 1e-9
    assert Truth(moved).norms(sigma)["pooling_difference"] <= float(found.value)


def wave(b, size=128):
    """tau = (b N / 2 pi) sin(2 pi u / N): nearly a dilation where the slope is largest."""
    amplitude = torch.tensor([[b * size / (2 * math.pi)]], dtype=torch.float64)
    return st.FourierField(torch.tensor([[1]]), 0 * amplitude, amplitude, size=(size,))


def test_slow_waves_reach_the_factor_of_dilations_and_half_a_supremum_is_caught(monkeypatch):
    field, sigma = wave(0.02), 1.0
    truth = Truth(field, (70, 80, 1024)).norms(sigma)
    found = FieldCertificates(field).commutator(sigma)
    assert found.forms == ("hessian",)
    assert truth["commutator"] <= float(found.value) <= 1.12 * truth["commutator"]
    assert truth["patch_energy"] <= float(FieldCertificates(field).patch_energy(sigma, 3, 1.0).value)
    monkeypatch.setattr(FieldSuprema, "strain", property(lambda self: torch.full((1,), 0.02, dtype=torch.float64)))
    assert float(FieldCertificates(field).commutator(sigma).value) < truth["commutator"]


def shear(b):
    amplitude = torch.tensor([[b * 16 / (2 * math.pi), 0.0]], dtype=torch.float64)
    return st.FourierField(torch.tensor([[0, 1]]), amplitude, 0 * amplitude, size=(16, 16))


def test_shears_change_no_volume_and_move_offsets_across_them_only():
    """Singular values s and 1 / s with s - 1 / s = b."""
    suprema, b = FieldSuprema(shear(0.3)), 0.3
    assert float(suprema.volume) < 1e-4  # certified to a share of b
    assert float(suprema.anisotropy) == pytest.approx(b, rel=1e-3)
    assert float(suprema.directional((1, 1))) == pytest.approx(b / math.sqrt(2), rel=1e-3)


@pytest.mark.slow
def test_commutators_of_shears_have_the_bound_without_volume():
    field, b = shear(0.3), 0.3
    found = float(FieldCertificates(field).commutator(1.5).value)
    assert Truth(field).norms(1.5)["commutator"] <= found
    assert found == pytest.approx(b / math.e, rel=2e-3)
    assert found <= bounds.commutator_volume_preserving(b)


@pytest.mark.parametrize("d", [1, 2])
def test_suprema_are_just_above_dense_maxima(d):
    field = fourier(SIZES[d], 0.5, seed=4)[None]
    suprema = FieldSuprema(field)
    axes = [torch.arange(0, n, {1: 1 / 64, 2: 1 / 16}[d], dtype=torch.float64) for n in reversed(SIZES[d])]
    at = torch.cartesian_prod(*axes).reshape(-1, d)
    J, H = field.jacobian(at)[0], field.hessian(at)[0]
    M = torch.eye(d, dtype=torch.float64) - J
    D, inverse = torch.linalg.det(M), torch.linalg.inv(M)
    s = torch.linalg.svdvals(M)
    gradient = (inverse.mT @ torch.einsum("pij,pjik->pk", inverse, H)[..., None])[..., 0].norm(dim=-1)
    e = torch.tensor([1.0, 2.0][:d], dtype=torch.float64)
    dense = {
        "warp": D**-0.5,
        "jacobian": torch.linalg.matrix_norm(J, ord=2) * D**-0.5,
        "symmetric_jacobian": torch.linalg.matrix_norm((J + J.mT) / 2) * D**-0.5,
        "volume": (1 - D).abs() * D**-0.5,
        "anisotropy": (s - D[:, None] / s).abs().amax(1) * D**-0.5,
        "strain": (s - 1 / s).abs().amax(1) * D**-0.5,
        "bend": gradient * D**-0.5,
        "density": 1 / D,
        "density_gradient": gradient / D,
    }
    for name, values in dense.items():
        assert values.max() <= getattr(suprema, name) <= 1.004 * values.max(), name
    steepest = ((J @ (e / e.norm())).norm(dim=-1) * D**-0.5).max()
    assert steepest <= suprema.directional((1, 2)[:d]) <= 1.004 * steepest
    spread = (1 / D).max() - (1 / D).min()
    assert spread <= suprema.density_oscillation <= 1.004 * spread


@pytest.mark.parametrize("kind", ["line", "generic", "vortices"])
def test_path_integrals_are_just_above_dense_ones(kind):
    family = st.DivergenceFreeField if kind == "vortices" else st.FourierField
    size = SIZES[1 if kind == "line" else 2]
    field = steep(family.sample(size, cutoff=1, generator=generator(2)), 0.6)[None]
    at = st.grid.coordinates(size, oversample=32 if kind == "line" else 8, dtype=torch.float64).flatten(0, -2)
    tau, J = field.displacement(at)[0].norm(dim=-1), field.jacobian(at)[0]
    eye = torch.eye(len(size), dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    dense = sum(
        w / 2 * float((tau * torch.linalg.det(eye - (x + 1) / 2 * J) ** -0.5).max())
        for x, w in zip(nodes, weights, strict=True)
    )
    norms = field.norms()
    found = float(path_integral(field, norms.displacement.upper, norms.jacobian.upper))
    assert dense <= found <= 1.02 * dense
    assert found <= float(norms.displacement.upper) * bounds.c_p(len(size) / 2, 0.6) * 1.01


@pytest.mark.parametrize("e", [1, 2, 3, 4])
def test_shifts_are_root_mean_squares_over_the_patch(e):
    """In d = 1 every offset sees the same slope: sigma K = c_rms sup |tau'| D^(-1/2)."""
    suprema = FieldSuprema(fourier((16,), 0.3))
    arch = st.Architecture((st.Layer(1, 1.0, 2), st.Layer(e, 1.0)))
    assert len(offsets(e, 2)) == e * e
    assert float(shift(suprema, e, 2.0)) == pytest.approx(arch.patch_radius(2, 1) * float(suprema.jacobian), rel=1e-3)


def test_constant_factors_in_front_of_the_laplacian_are_what_they_are_by_linear_algebra():
    from stability.certificates.splittings import splittings

    field = fourier((16, 16), 0.5, seed=1)[None]
    at = st.grid.coordinates((16, 16), oversample=8, dtype=torch.float64).flatten(0, -2)
    M = torch.eye(2, dtype=torch.float64) - field.jacobian(at)[0]
    D, s = torch.linalg.det(M), torch.linalg.svdvals(M)
    low, high = D.min(), D.max()
    (parts,) = splittings(FieldSuprema(field))
    constants = [part for part in parts if part.name == "volume"][1:]
    assert len(constants) == 9
    for i, part in enumerate(constants):
        p = high ** (i / 8 - 1) * low ** (-i / 8)
        laplacian = ((1 - p * D).abs() * D**-0.5).max()
        divergence = ((s - p * D[:, None] / s).abs().amax(1) * D**-0.5).max()
        assert laplacian <= part.laplacian * 1.001
        assert part.laplacian <= laplacian * 1.01
        assert divergence <= part.divergence * 1.001
        assert part.divergence <= divergence * 1.01


def test_fields_that_are_not_covered_keep_their_rows():
    field = fourier((16,), torch.tensor([0.2, 1.3], dtype=torch.float64), count=2)
    certificates = FieldCertificates(field)
    for found in (*certified(certificates, 2.0).values(), certificates.strain, certificates.density_oscillation):
        assert torch.isfinite(found.value).tolist() == found.covered.tolist() == [True, False]
        assert found.forms[1] == "none"
        assert found.status == Status.NUMERICAL
    window = st.AffineField.sample((16, 16), batch_shape=(2,), generator=generator(), edge=0.5)
    found = FieldCertificates(steep(window, 0.1)).commutator(1.0)
    assert found.value.tolist() == [math.inf, math.inf]
    assert found.status == Status.NOT_COVERED
    assert operator_weighted(steep(window, 0.1), 1.0, generator()).status == Status.NOT_COVERED
    assert schur(steep(window, 0.1), 1.0).status == Status.NOT_COVERED


def test_a_batch_has_the_values_of_its_fields():
    field = fourier((16,), torch.tensor([[0.1], [0.4]], dtype=torch.float64), count=2)
    assert field.batch_shape == (2, 2)
    together = FieldCertificates(field).patch_commutator(2.0, 3, 1.0)
    for i, (row, column) in enumerate(itertools.product(range(2), repeat=2)):
        alone = FieldCertificates(field[row, column]).patch_commutator(2.0, 3, 1.0)
        assert float(alone.value) == pytest.approx(float(together.value[i]), rel=1e-3)


def test_operator_weighted_bounds_enter_every_form_that_they_improve_with_their_status():
    field = fourier((16,), torch.tensor([0.1, 0.4], dtype=torch.float64), count=2)
    plain, weighted = FieldCertificates(field), FieldCertificates(field, generator())
    norms = st.OperatorNorms(field, generator=generator())
    own = operator_weighted(field, 2.0, generator(), failure=1e-6)
    for name, of, enclosed in (
        ("commutator", lambda c: c.commutator(2.0), norms.commutator(2.0)),
        ("patch", lambda c: c.patch_commutator(2.0, 3, 1.0), norms.patch_commutator(2.0, 3, 1.0)),
        ("difference", lambda c: c.pooling_difference(2.0), norms.pooling_difference(2.0)),
    ):
        found = of(weighted)
        assert (enclosed.upper <= found.value).all(), name
        assert (found.value < of(plain).value).all(), name
        assert all("operator weighted" in form for form in found.forms), name
        assert found.status == Status.PROBABLE, name
        assert of(plain).status == Status.NUMERICAL, name
    assert torch.allclose(weighted.commutator(2.0).value, own.value, rtol=0.02)
    assert weighted.warp.status == Status.NUMERICAL  # nothing is weakened that does not use it
    assert weighted.commutator(0.0).status == Status.PROOF
    with pytest.raises(TypeError, match="generator must be"):
        FieldCertificates(field, 3)


def test_without_pooling_only_norms_are_left():
    certificates = FieldCertificates(fourier((16,), 0.2))
    warp = float(certificates.warp.value)
    assert certificates.commutator(0.0).value == 0
    assert float(certificates.patch_commutator(0.0, 3, 1.0).value) == pytest.approx(2 * warp)
    assert certificates.patch_commutator(0.0, 1, 1.0).value == 0
    assert torch.isinf(certificates.patch_energy(0.0, 3, 1.0).value)
    assert float(certificates.pooling_difference(0.0).value) == pytest.approx(1 + warp)
    assert float(certificates.warp_difference(0.0).value) == pytest.approx(1 + warp)


def test_fields_without_a_second_derivative_have_certificates_without_bend():
    field = steep(st.PiecewiseLinearField.sample((16,), cutoff=2, lattice=(16,), generator=generator()), 0.3)
    certificates = FieldCertificates(field)
    assert torch.isinf(certificates.bend.value)
    assert float(certificates.commutator(2.0).value) < bounds.commutator(0.3, 1)


def test_single_precision_is_computed_in_double():
    field = fourier((16, 16), 0.3)
    found, single = (FieldCertificates(one).commutator(2.0).value for one in (field, field.to(dtype=torch.float32)))
    assert single.dtype == torch.float64
    torch.testing.assert_close(found, single, rtol=1e-3, atol=0)


# -------------------------------------------------------------------------------------------------- independent checks
@pytest.mark.parametrize("d", PLANE_SLOW)
def test_checks_by_other_routes_are_above_the_norm_and_in_order(d):
    field, sigma = fourier(SIZES[d], 0.4, cutoff=1, seed=2), 2.0
    truth = Truth(field).norms(sigma)["commutator"]
    weighted = operator_weighted(field, sigma, generator())
    rows, perron = schur(field, sigma), perron_schur(field, sigma)
    assert weighted.status == Status.PROBABLE
    assert rows.status == perron.status == Status.ESTIMATE
    assert truth <= float(weighted.value) <= float(FieldCertificates(field).commutator(sigma).value)
    assert truth <= float(perron.value) <= float(rows.value) <= 4 * truth
    assert float(rows.value) == pytest.approx(float(schur(field, sigma, oversample=2).value), rel=0.02)


def test_translations_pass_the_checks_with_zero():
    field = st.Translation((1.5, 2.0), (12, 12))
    assert float(operator_weighted(field, 2.0, generator()).value) < 1e-9
    assert float(schur(field, 2.0).value) < 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_the_largest_eigenvalue_is_not_missed(seed):
    spectrum = torch.linspace(0, 1, 2000, dtype=torch.float64) ** 0.2
    found = largest_eigenvalue(lambda v: spectrum * v, 2000, generator(seed), steps=60, failure=1e-3)
    assert 1 <= found <= 1 / (1 - shortfall(2000, 60, 1e-3))
    few = largest_eigenvalue(lambda v: spectrum * v, 2000, generator(seed), steps=3, failure=1e-3)
    assert math.isinf(few)  # eps >= 1: too few steps say nothing
    rank_one = largest_eigenvalue(lambda v: v.mean().expand(50), 50, generator(seed), steps=60, failure=1e-3)
    assert rank_one == pytest.approx(1.0)  # the method ends early and is exact


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: FieldCertificates(torch.zeros(3)), "deformation must be"),
        (lambda c: c.commutator(-1.0), "sigma must be"),
        (lambda c: c.patch_commutator(1.0, 0, 1.0), "patch_size must be"),
        (lambda c: c.patch_energy(1.0, 3, math.nan), "spacing must be"),
        (lambda c: schur(st.Translation((1.0,), (16,)), 0.0), "sigma must be"),
        (lambda c: schur(st.Translation((1.0, 1.0), (256, 256)), 1.0), "at most"),
        (lambda c: operator_weighted(st.Translation((1.0,), (16,)), 1.0, generator(), failure=2.0), "failure"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call(FieldCertificates(st.Translation((1.0,), (16,))))
