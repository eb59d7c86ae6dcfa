"""Enclosures of operator norms against explicit matrices, laws, closed forms and broken objects."""

import itertools
import math

import numpy as np
import pytest
import torch

import stability as st
from stability import bounds, front_ends
from stability.bounds.field import FieldNorms
from stability.bounds.forms import last_pooling, patch_commutator, patch_energy, pooling_commutator
from stability.bounds.rung import Status
from stability.operator_norms import OperatorNorms, stack
from stability.operator_norms.ball import Ball, real_form
from stability.operator_norms.commutator import Commutator
from stability.operator_norms.compression import Compression
from stability.operator_norms.differences import PoolingDifference, WarpDifference
from stability.operator_norms.filters import Patches
from stability.operator_norms.lanczos import largest_eigenvalue
from stability.operator_norms.operators import Effort
from stability.operator_norms.products import Products, Stack
from stability.operator_norms.sampling import strip

pytestmark = pytest.mark.slow


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(size, b, cutoff=2, seed=0, family=st.FourierField, **options):
    options = options or {"cutoff": cutoff}
    return st.control(family.sample(size, generator=rng(seed), **options), jacobian_norm=b)


# ------------------------------------------------------------------------------------------------------- explicit SVD
def modes(top, d):
    return np.array(list(itertools.product(range(-top, top + 1), repeat=d)))


class Explicit:
    """Matrices between exponentials by quadrature, sharing no code with the package; norms by SVD."""

    def __init__(self, field, inner, outer, per_axis):
        d, sides = field.d, np.array(field.size[::-1], dtype=float)
        axes = [np.arange(per_axis) * side / per_axis for side in sides]
        u = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, d)
        moved = u - field.displacement(torch.from_numpy(u)).numpy()
        self.k, self.m = (2 * math.pi * modes(top, d) / sides for top in (inner, outer))
        self.warp = np.exp(-1j * self.m @ u.T) @ np.exp(1j * moved @ self.k.T) / len(u)
        self.same = (np.abs(self.m[:, None] - self.k).max(-1) < 1e-12).astype(float)

    def gauss(self, omega, sigma):
        return np.exp(-0.5 * sigma**2 * (omega**2).sum(1))

    def stacked(self, symbol):
        """[V, L] for symbol(omega) -> list of arrays."""
        pairs = zip(symbol(self.m), symbol(self.k), strict=True)
        return np.concatenate([left[:, None] * self.warp - self.warp * right for left, right in pairs])

    def patches(self, sigma, e, spacing=1.0, front=lambda omega: [np.ones(len(omega))]):
        offsets = [
            np.array(c) * spacing for c in itertools.product(range(-(e // 2), e // 2 + 1), repeat=self.k.shape[1])
        ]

        def symbol(omega):
            pooled = self.gauss(omega, sigma) / math.sqrt(len(offsets))
            return [f * np.exp(1j * omega @ c) * pooled for f in front(omega) for c in offsets]

        return self.stacked(symbol)

    def norm(self, matrix, energy=None):
        if energy is not None:
            moving = (self.k != 0).any(1)
            matrix = matrix[:, moving] / np.sqrt(1 - self.gauss(self.k[moving], energy) ** 2)
        return np.linalg.norm(matrix, 2)


CASES = [((32,), 0.1, 2.0), ((32,), 0.45, 1.5), ((10, 12), 0.15, 2.0)]


def explicit(field):
    return Explicit(field, 30, 60, 256) if field.d == 1 else Explicit(field, 7, 10, 48)


@pytest.mark.parametrize(("size", "b", "sigma"), CASES)
def test_every_norm_is_that_of_an_explicit_matrix(size, b, sigma):
    field = fourier(size, b)
    norms, direct = OperatorNorms(field), explicit(field)
    left, right = direct.gauss(direct.m, sigma)[:, None], direct.gauss(direct.k, sigma)

    def gradient(omega):
        return [1j * np.sin(omega[:, j]) / math.sqrt(omega.shape[1]) for j in range(omega.shape[1])]

    def centred(omega):
        return [(omega != 0).any(1).astype(float)]

    pairs = [
        (norms.commutator(sigma), direct.norm(direct.patches(sigma, 1))),
        (norms.commutator(sigma, energy=True), direct.norm(direct.patches(sigma, 1), sigma)),
        (norms.patch_commutator(sigma, 3, 1.0), direct.norm(direct.patches(sigma, 3))),
        (norms.patch_commutator(sigma, 3, 2.0, energy=True), direct.norm(direct.patches(sigma, 3, 2.0), sigma)),
        (
            norms.front_end_commutator(front_ends.Gradient(), sigma),
            direct.norm(direct.patches(sigma, 1, 1.0, gradient)),
        ),
        (
            norms.front_end_commutator(front_ends.MeanRemoval(), sigma, 3, 1.0),
            direct.norm(direct.patches(sigma, 3, 1.0, centred)),
        ),
        (norms.pooling_difference(sigma), direct.norm(left * (direct.warp - direct.same))),
        (norms.warp_difference(sigma), direct.norm((direct.warp - direct.same) * right)),
    ]
    for found, seen in pairs:
        assert found.lower <= found.upper <= found.lower * (1 + 1e-5)
        assert found.status is Status.ENCLOSURE
        # the explicit matrix leaves out frequencies: a little less than the norm, and equal to a few parts in 1e6
        assert seen <= found.upper * (1 + 1e-9)
        assert seen >= found.lower * (1 - 2e-5)


@pytest.mark.parametrize("b", [0.2, 0.5])
def test_larger_balls_give_narrower_enclosures_inside_the_wider_ones(b):
    field, operator = fourier((32,), b), Commutator(Patches(2.0, 3))
    ends = [operator.by_matrices(field, Effort(radius, 3.3, 0.1)) for radius in (1.0, 1.5, 2.0, 3.0, 5.0)]
    for wide, narrow in itertools.pairwise(ends):
        assert wide.lower <= narrow.lower * (1 + 1e-6)
        assert wide.upper >= narrow.upper * (1 - 1e-6)
    assert ends[0].gap > 10 * ends[-1].gap


# ------------------------------------------------------------------------------------------------------------- Lanczos
@pytest.mark.parametrize("size", [(48,), (12, 14)])
@pytest.mark.parametrize(
    "operator",
    [
        Commutator(Patches(1.5)),
        Commutator(Patches(1.5, 3), 1.5),
        Commutator(Patches(1.5, 2, 2.0, front_ends.Gradient())),
        PoolingDifference(Patches(1.5)),
        WarpDifference(Patches(1.5)),
    ],
    ids=["commutator", "energy", "gradient", "pooling", "warp"],
)
def test_lanczos_agrees_with_matrices(size, operator):
    field, effort = fourier(size, 0.3), Effort(2.6, 3.6, 0.1)
    dense = operator.by_matrices(field, effort)
    iterated = operator.by_iterations(field, effort, rng(), 1e-3, 1e-11)
    assert iterated.lower == pytest.approx(dense.lower, rel=1e-8)
    assert iterated.status is Status.PROBABLE
    assert dense.lower * (1 - 1e-8) <= iterated.upper
    assert iterated.upper == pytest.approx(dense.upper, rel=1e-3)  # the tails are bounded in another way


def products(size, b=0.3):
    field = fourier(size, b)
    return Products(field, Ball(size, 2.5), Ball(size, 3.5))


def functions(warp, channels, seed=1):
    f = warp.start(warp.inner, warp.image, rng(seed))
    g = torch.randn(channels, *warp.grid, generator=rng(seed + 1), dtype=torch.float64)
    return f, g


@pytest.mark.parametrize("size", [(48,), (12, 14)])
def test_the_adjoint_is_exact(size):
    warp = products(size)
    for operator, channels in ((warp, 1), (Stack(warp, Patches(1.5, 3), torch.ones(len(warp.inner))), 3 ** len(size))):
        f, g = functions(warp, channels)
        there, back = (operator.forward(f) * g).sum(), (f * operator.adjoint(g)).sum()
        assert abs(there - back) <= 1e-12 * operator.forward(f).norm() * g.norm()


def test_the_adjoint_of_the_field_of_opposite_sign_is_caught():
    size = (48,)
    warp, wrong = products(size), Products(-fourier(size, 0.3), Ball(size, 2.5), Ball(size, 3.5))
    wrong.grid = warp.grid
    f, g = functions(warp, 1)
    wrong_back = Products(-fourier(size, 0.3), warp.inner, warp.outer).adjoint(g)
    assert abs((warp.forward(f) * g).sum() - (f * wrong_back).sum()) > 1e-3


def spectrum_failures(cheat=1.0):
    """How often the upper end lies below the largest eigenvalue when few steps are made."""
    values = torch.cat([torch.linspace(0, 0.97, 59, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    generator, fails = rng(3), 0
    for _ in range(150):
        start = torch.randn(60, generator=generator, dtype=torch.float64)
        failure = min(0.999, 0.2 * cheat)
        found = largest_eigenvalue(lambda x: values * x, start, 60, failure=failure, tolerance=0.05, steps=8)
        assert found.lower <= 1 + 1e-12
        fails += found.upper < 1
    return fails / 150


def test_the_upper_end_fails_at_most_as_often_as_it_says():
    assert spectrum_failures() <= 0.2
    assert spectrum_failures(cheat=4.9) > 0.2  # so the count can tell


def test_large_cases_ask_for_a_generator_and_use_it():
    field = fourier((32,), 0.3)
    with pytest.raises(ValueError, match="generator"):
        OperatorNorms(field, largest_matrix=3).commutator(2.0)
    found = OperatorNorms(field, rng(), largest_matrix=3).commutator(2.0)
    known = OperatorNorms(field).commutator(2.0)
    assert found.form == "Lanczos"
    assert found.lower <= known.upper
    assert known.lower <= found.upper <= known.upper * (1 + 1e-4)


# ---------------------------------------------------------------------------------------------------------------- laws
@pytest.mark.parametrize("c", [(0.3, 0.1), (2.0, -1.0), (7.0, 3.0)])
def test_translations_have_their_exact_value(c):
    field = st.Translation(torch.tensor([c, (0.0, 0.0)], dtype=torch.float64), size=(96, 96))
    norms, r = OperatorNorms(field), math.hypot(*c) / 3.0
    for found in (norms.pooling_difference(3.0), norms.warp_difference(3.0)):
        assert found.lower[0] == found.upper[0] <= bounds.translation(r)
        assert found.upper[0] >= 0.97 * bounds.translation(r)  # the torus has only some frequencies
        assert found.upper[1] == 0
        assert found.status is Status.PROOF
    assert norms.patch_commutator(3.0, 3, 2.0, energy=True).upper.tolist() == [0.0, 0.0]


def test_a_translation_as_a_series_is_enclosed_by_the_same_value():
    field = fourier((24, 20), 1e-3) + st.Translation((1.3, -0.4), size=(24, 20))
    exact = OperatorNorms(st.Translation(field.mean, size=(24, 20))).pooling_difference(2.0).upper
    assert OperatorNorms(field).pooling_difference(2.0).upper == pytest.approx(float(exact), abs=5e-3)


def test_norms_depend_on_the_field_in_units_of_sigma_only():
    field = fourier((10, 12), 0.2)
    for name in ("commutator", "pooling_difference", "warp_difference"):
        coarse = getattr(OperatorNorms(field), name)(1.5).lower
        assert getattr(OperatorNorms(field.refined(2)), name)(3.0).lower == pytest.approx(float(coarse), rel=1e-5)


def test_commutators_do_not_see_a_constant():
    field = fourier((32,), 0.3)
    shifted = field + st.Translation((5.3,), size=(32,))
    assert OperatorNorms(shifted).pooling_difference(2.0).status is Status.ENCLOSURE  # a sum of series is one
    for energy in (False, True):
        plain = OperatorNorms(field).patch_commutator(2.0, 3, 1.0, energy)
        assert OperatorNorms(shifted).patch_commutator(2.0, 3, 1.0, energy).lower == pytest.approx(
            float(plain.lower), rel=1e-5
        )


def test_a_wide_wave_acts_like_a_dilation():
    b = 0.05
    found = OperatorNorms(fourier((512,), b, cutoff=1)).commutator(1.0)
    assert 0.95 * 2 / math.e * b < found.lower
    assert found.upper <= bounds.commutator_hessian(b, b * 2 * math.pi / 512, 1.0, 1)


def test_a_bank_of_pooling_symbols_is_the_pooling():
    size, sigma = (32,), 2.0
    omega = 2 * math.pi * torch.fft.fftfreq(61, 1 / 61, dtype=torch.float64) / 32
    low = torch.exp(-0.5 * (sigma * omega) ** 2)
    norms = OperatorNorms(fourier(size, 0.3))
    single, both = (
        stack(low[None], size),
        stack(torch.stack([low, (1 - low**2).clamp_min(0).sqrt() * (omega.abs() < 2)]), size),
    )
    assert norms.bank_commutator(single).lower == pytest.approx(float(norms.commutator(sigma).lower), rel=1e-5)
    assert norms.bank_commutator(both).upper >= norms.commutator(sigma).lower


def test_the_identity_as_a_front_end_changes_nothing():
    norms = OperatorNorms(fourier((32,), 0.3))
    assert norms.front_end_commutator(None, 2.0, 3, 1.0) is norms.patch_commutator(2.0, 3, 1.0)  # computed once


def test_without_pooling_only_norms_are_left():
    norms = OperatorNorms(fourier((32,), 0.19))
    assert float(norms.patch_commutator(0.0, 3).upper) == pytest.approx(2 / 0.9, rel=1e-2)
    assert float(norms.commutator(0.0).upper) == 0.0
    assert norms.pooling_difference(0.0).status is Status.PROOF
    assert norms.commutator(0.0, energy=True).status is Status.NOT_COVERED


# --------------------------------------------------------------------------------------------------------- closed forms
FAMILIES = {
    "fourier": (st.FourierField, {"cutoff": 2}),
    "gradient": (st.GradientField, {"cutoff": 2}),
    "divergence_free": (st.DivergenceFreeField, {"cutoff": 2}),
    "gaussian": (st.GaussianField, {"smoothing": 3.0}),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(24,), (12, 12)])
@pytest.mark.parametrize("b", [0.1, 0.5])
def test_no_closed_form_lies_below_an_enclosed_norm(name, size, b):
    family, options = FAMILIES[name]
    if name == "divergence_free" and len(size) == 1:
        return
    field, sigma = fourier(size, b, family=family, **options), 1.5
    norms, known, d = OperatorNorms(field, largest_matrix=400), field.norms(), len(size)
    a, b, h = (float(one.upper) for one in (known.displacement, known.jacobian, known.hessian))
    radius = st.Architecture((st.Layer(3, sigma),)).patch_radius(1, d)
    kappa = radius / sigma
    full = FieldNorms(a, b, h, divergence=float(known.divergence.upper), d=d)
    plain = norms.commutator(sigma).lower
    assert plain <= min(bounds.commutator(b, d), bounds.commutator_hessian(b, h, sigma, d))
    assert plain <= pooling_commutator(full, sigma).value
    patch = norms.patch_commutator(sigma, 3).lower
    assert plain <= patch * (1 + 1e-6)
    assert patch <= min(bounds.joint_commutator(kappa, b, d), bounds.c1(kappa, b, d) * b)
    assert patch <= patch_commutator(full, sigma, radius, symmetric=True).value
    energy = norms.patch_commutator(sigma, 3, energy=True).lower
    assert patch <= energy * (1 + 1e-6)
    assert energy <= bounds.joint_energy(kappa, d) * b * (1 - b) ** (-d / 2)
    assert energy <= patch_energy(full, sigma, radius).value
    assert norms.warp_difference(sigma).lower <= bounds.c2(b, d) * a / sigma
    assert norms.pooling_difference(sigma).lower <= bounds.pooling_difference(a, b, sigma, d)
    assert norms.pooling_difference(sigma).lower <= last_pooling(full, sigma, a).value


def test_half_a_constant_is_caught():
    b = 0.05
    norms = OperatorNorms(fourier((512,), b, cutoff=1))
    assert norms.commutator(1.0).lower > 0.5 * bounds.commutator_hessian(b, b * 2 * math.pi / 512, 1.0, 1)
    shift = OperatorNorms(st.Translation((0.2,), size=(64,))).warp_difference(2.0)
    assert shift.lower > 0.5 * bounds.c2(0.0, 1) * 0.2 / 2.0


# ----------------------------------------------------------------------------------------------------------- quadrature
@pytest.mark.parametrize("size", [(16,), (8, 8)])
def test_aliasing_is_at_most_what_is_claimed(size):
    field = fourier(size, 0.5, cutoff=2)
    known, ball, d = strip(field), Ball(size, 2.0), len(size)
    warp = Compression(field, ball, ball)
    exact, area = warp._coefficients(16.0), warp._densities(64.0)
    for density in (0.8, 1.0, 1.5, 2.0, 3.0):
        error = float((warp._coefficients(density) - exact).abs().max())
        assert error <= known.waves(density, 4.0, 2.0) + 1e-14
        coarse = warp._densities(density)
        if density * 2 * math.pi > 4.0:
            index = [torch.arange(-1, 2)] * d
            near = coarse[torch.meshgrid(*index, indexing="ij")] - area[torch.meshgrid(*index, indexing="ij")]
            assert float(near.abs().max()) <= known.inverse_density(density, 4.0) + 1e-14
    assert known.waves(6.0, 4.0, 2.0) < 1e-10


def test_the_squares_of_the_deformation_are_multiplications():
    field, ball, wide = fourier((16,), 0.4), Ball((16,), 2.0), Ball((16,), 12.0)
    warp = Compression(field, ball, wide)
    matrix = warp.matrix
    assert torch.allclose(matrix.mH @ matrix, warp.squares, atol=1e-12)  # L^T L
    back = Compression(field, wide, ball).matrix
    assert torch.allclose(back @ back.mH, warp.outer_squares(ball)[0], atol=1e-12)  # L L^T


def test_the_real_form_keeps_singular_values():
    warp = Compression(fourier((16,), 0.4), Ball((16,), 3.0), Ball((16,), 5.0)).matrix
    assert torch.allclose(torch.linalg.svdvals(real_form(warp)), torch.linalg.svdvals(warp), atol=1e-12)


# --------------------------------------------------------------------------------------------------------------- status
def test_fields_that_fold_are_not_covered_and_the_row_stays():
    field = st.FourierField.sample((24,), cutoff=2, batch_shape=(2,), generator=rng())
    field = st.control(field, jacobian_norm=torch.tensor([0.2, 1.2]))
    found = OperatorNorms(field).commutator(2.0)
    assert found.statuses == (Status.ENCLOSURE, Status.NOT_COVERED)
    assert found.upper[0] < 0.3
    assert found.upper[1] == math.inf
    assert found.status is Status.NOT_COVERED


def test_steep_fields_are_estimates():
    found = OperatorNorms(fourier((16,), 0.95)).commutator(2.0)
    assert found.status is Status.ESTIMATE
    assert 0.3 < found.lower <= found.upper <= bounds.commutator(0.95, 1)


def test_windows_are_covered_if_the_field_vanishes_at_the_border():
    affine = OperatorNorms(st.AffineField.sample((24,), generator=rng())).commutator(2.0)
    assert affine.status is Status.NOT_COVERED
    compact = st.CompactField.sample((24,), cutoff=2, generator=rng())
    compact = OperatorNorms(st.control(compact, jacobian_norm=0.2)).commutator(2.0)
    assert compact.status is Status.ESTIMATE  # its quadrature has no proved error
    assert 0 < compact.lower <= compact.upper < 0.3


def test_a_batch_is_its_fields():
    field = st.control(st.FourierField.sample((24,), cutoff=2, batch_shape=(3,), generator=rng()), jacobian_norm=0.2)
    batch = OperatorNorms(field).pooling_difference(2.0)
    for row in range(3):
        assert OperatorNorms(field[row]).pooling_difference(2.0).upper == batch.upper[row]
    assert OperatorNorms(field[0]).pooling_difference(2.0).upper.shape == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: OperatorNorms("field"), "deformation must be"),
        (lambda n: OperatorNorms(n.deformation, failure=0.0), "failure"),
        (lambda n: OperatorNorms(n.deformation, tolerance=2.0), "tolerance"),
        (lambda n: OperatorNorms(n.deformation, largest_matrix=0), "largest_matrix"),
        (lambda n: n.commutator(-1.0), "sigma"),
        (lambda n: n.patch_commutator(1.0, 0), "patch_size"),
        (lambda n: n.front_end_commutator("mean", 1.0), "front_end"),
        (lambda n: n.bank_commutator("bank"), "bank must be"),
        (lambda n: n.bank_commutator(stack(torch.ones(1, 3), (5,))), "torus"),
        (lambda n: stack(torch.full((1, 3), 1.1), (24,)), "divide"),
        (lambda n: stack(torch.tensor([[1.0, 0.5, 0.0]]), (24,)), "real filters"),
        (lambda n: stack(torch.ones(1, 4), (24,)), "Nyquist"),
        (lambda n: stack(torch.ones(3), (24,)), "symbols"),
    ],
)
def test_wrong_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call(OperatorNorms(fourier((24,), 0.2)))
