"""CompactField's certified norms and the constants behind them, against brute force and repeated differentiation."""

import math

import numpy as np
import pytest
import torch

import stability as st
from stability.deformations import compact, enclosure
from stability.deformations.enclosure import Box, Enclosure, Losses
from stability.deformations.taper import STEEPEST, Taper

ROUND_OFF = 1e-12
NAMES = ("displacement", "jacobian", "hessian", "divergence")
CASES = [
    ((24,), 3, {}),
    ((30,), 2, {"border": 3.0, "rise": 4.0}),
    ((28, 28), 3, {}),
    ((24, 40), 2, {"border": 2.5, "rise": 5.0}),
    ((20, 20), 4, {"border": 1.0, "rise": 2.0}),
]


def draw(size, cutoff=3, count=4, seed=0, **widths):
    rng = torch.Generator().manual_seed(seed)
    return st.CompactField.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng, **widths)


# --- the taper --------------------------------------------------------------------------------------------------


def smoothstep():
    """s and its derivatives as polynomials, by their own route: the multiple of the integral of t^3 (1 - t)^3."""
    s = (np.polynomial.Polynomial([0, 0, 0, 1]) * np.polynomial.Polynomial([1, -1]) ** 3).integ()
    s = s / s(1.0)
    return [s, *(s.deriv(k) for k in range(1, 5))]


def test_the_taper_is_a_smoothstep_with_three_derivatives_that_vanish_at_both_ends():
    t = np.linspace(0, 1, 100_001)
    for k, (s, steepest) in enumerate(zip(smoothstep(), STEEPEST, strict=True)):
        largest = np.abs(s(t)).max()
        assert largest <= steepest * (1 + 1e-9)
        assert largest >= steepest * (1 - 1e-6)
        if 1 <= k <= 3:
            assert abs(s(0.0)) + abs(s(1.0)) < 1e-9
    taper = Taper((64,), border=3.0, rise=8.0)
    u = torch.linspace(2.5, 10.5, 101, dtype=torch.float64)
    for point, sign in ((u, 1.0), (63.0 - u, -1.0)):
        values = taper.derivatives(point[:, None], 2)
        for k, (value, s) in enumerate(zip(values, smoothstep()[:3], strict=True)):
            expected = torch.from_numpy(s((u.numpy() - 2.5) / 8)) * (sign / 8) ** k
            torch.testing.assert_close(value.flatten(), expected, rtol=0, atol=ROUND_OFF)
    inside = taper.derivatives(torch.linspace(-0.5, 63.5, 999, dtype=torch.float64)[:, None], 0)[0]
    assert bool((inside.diff()[:499] >= 0).all())
    assert bool((inside.diff()[499:] <= 0).all())


@pytest.mark.parametrize("rises", [(8.0, 8.0), (4.0, 10.0)])
def test_the_tapers_constants_bound_its_directional_derivatives(rises):
    taper = Taper((int(4 * rises[1]), int(4 * rises[0])))
    assert taper.rises == rises
    t = np.linspace(0, 1, 81)
    tables = [[s(t) / rise**k for k, s in enumerate(smoothstep())] for rise in rises]
    angle = np.linspace(0, math.pi, 181)
    for k, bound in enumerate(taper.constants()):
        value = sum(
            math.comb(k, j)
            * np.multiply.outer(tables[0][j], tables[1][k - j])[..., None]
            * (np.cos(angle) ** j * np.sin(angle) ** (k - j))
            for j in range(k + 1)
        )
        assert np.abs(value).max() <= bound
        assert bound <= 3 * np.abs(value).max()


# --- norms ------------------------------------------------------------------------------------------------------


def brute_force(field, per_pixel):
    """Suprema on a dense grid, directions by singular values and 90 angles, ``(4, fields)``."""
    axes = [torch.arange(-0.5, n - 0.5, 1 / per_pixel, dtype=torch.float64) for n in reversed(field.size)]
    at = torch.cartesian_prod(*axes).reshape(-1, field.d)
    jacobian = field.jacobian(at)
    angle = torch.arange(90, dtype=torch.float64) * (math.pi / 90)
    e = torch.stack([angle.cos(), angle.sin()], dim=-1) if field.d == 2 else torch.ones(1, 1, dtype=torch.float64)
    pairs = (e[:, :, None] * e[:, None, :]).flatten(1)
    along = [
        max((part.flatten(2) @ pairs.T).square().sum(1).max() for part in one.hessian(at).split(4096)).sqrt()
        for one in (field[i] for i in range(len(field.mean)))
    ]
    return torch.stack(
        [
            field.displacement(at).norm(dim=-1).amax(1),
            torch.linalg.svdvals(jacobian)[..., 0].amax(1),
            torch.stack(along),
            jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax(1),
        ]
    )


@pytest.mark.parametrize(("size", "cutoff", "widths"), CASES, ids=str)
def test_lower_and_upper_enclose_the_suprema(size, cutoff, widths):
    field = draw(size, cutoff, count=2, **widths)
    norms, seen = field.norms(), brute_force(field, per_pixel=6)
    for name, largest in zip(NAMES, seen, strict=True):
        interval = getattr(norms, name)
        assert bool((interval.lower >= largest * (1 - ROUND_OFF)).all()), name
        assert bool((interval.lower <= largest * 1.05).all()), name
        assert bool((interval.upper >= interval.lower).all()), name
        assert bool((interval.upper <= interval.lower * 1.005).all()), name


def test_lower_is_right_to_nine_digits_on_a_signal():
    """In one dimension the brute force can be as fine: about 1e-9 of the supremum between its nodes."""
    field = draw((24,), 3, count=5)
    at = torch.arange(-0.5, 23.5, 2e-4, dtype=torch.float64)[:, None]
    for name, value in zip(NAMES, (field.displacement, field.jacobian, field.hessian, field.jacobian), strict=True):
        seen = value(at).flatten(1).abs().amax(1)
        torch.testing.assert_close(getattr(field.norms(), name).lower, seen, rtol=1e-8, atol=0)


def test_the_product_rule_bounds_every_directional_derivative():
    """Orders 0 to 4 along random lines, by repeated forward differentiation."""
    field = draw((20, 24), 3, count=1, rise=4.0)[0]
    bounds = compact.directional_bounds(field.taper, field._flat_norms(), field._batch(0).bandwidths)
    rng = torch.Generator().manual_seed(2)
    start = torch.rand(500, 2, generator=rng, dtype=torch.float64) * st.grid.sides((20, 24)) - 0.5
    angle = torch.rand(500, generator=rng, dtype=torch.float64) * 2 * math.pi
    e = torch.stack([angle.cos(), angle.sin()], dim=-1)

    def derivative(s):
        return field.displacement(start + s * e)

    for bound in bounds:
        value = derivative(torch.zeros((), dtype=torch.float64)).norm(dim=-1).max()
        assert float(bound) >= float(value)
        assert float(bound) <= 40 * float(value)

        def derivative(s, inner=derivative):
            return torch.func.jvp(inner, (s,), (torch.ones_like(s),))[1]


def test_a_wrong_constant_is_caught(monkeypatch):
    """From a grid too coarse to see the peaks the right constants still certify; a hundredth of them does not."""
    monkeypatch.setattr(compact.CompactField, "_counts", lambda self, batch: (3, 3))
    seen = brute_force(draw((28, 28), 5, count=8), per_pixel=4)[0]
    assert bool((draw((28, 28), 5, count=8).norms().displacement.upper >= seen).all())
    right = compact.directional_bounds
    monkeypatch.setattr(compact, "directional_bounds", lambda *given: [bound / 100 for bound in right(*given)])
    assert not bool((draw((28, 28), 5, count=8).norms().displacement.upper >= seen).all())


class Needle:
    """1 + cos(2 pi u) / 10 and a needle of width 1e-3 at u = 0.3 that a grid of 64 nodes misses; largest value 2."""

    sides = torch.ones(1, dtype=torch.float64)
    curvature = 2 / 1e-6 + 0.1 * (2 * math.pi) ** 2
    slope = 1 / 1e-3 + 0.1 * 2 * math.pi

    def __len__(self):
        return 1

    def origin(self, spacing):
        return torch.zeros_like(spacing)

    def at(self, u):
        wave = 0.1 * torch.cos(2 * math.pi * u)
        needle = (2 - (1 + wave)) * torch.exp(-((u % 1 - 0.3).square()) / 1e-6)
        return 1 + wave + needle

    def chunks(self, counts):
        yield 0, self.at(torch.arange(counts[0], dtype=torch.float64) / counts[0])[None]

    def around(self, index, points, offsets):
        return self.at(points + offsets[:, 0])


def certificate(losses, **more):
    return Enclosure(Needle(), (64,), lambda: losses, lambda: torch.tensor([9.0]).double(), **more)


def given(value):
    return torch.tensor([value], dtype=torch.float64)


def test_branch_and_bound_finds_what_the_search_misses():
    assert float(certificate(Losses(given(1.0))).lower) == pytest.approx(1.1)
    assert float(certificate(Losses(given(40.0))).upper) < 2.0  # a bound that does not hold
    for losses in (
        Losses(curvature=given(Needle.curvature)),
        Losses(slope=given(Needle.slope)),
        Losses(given(Needle.curvature), given(Needle.slope)),
    ):
        assert 2.0 <= float(certificate(losses).upper) <= 2.01
    with pytest.raises(ValueError, match="a curvature or a slope"):
        _ = certificate(Losses()).upper


def test_losses_in_single_cells_certify_too():
    """Without the needle nearby the function is tame: fewer cells, the same certificate."""
    visited = []

    def local(index, points, offsets, rho):
        at = points + offsets[:, 0]
        visited.append(at.numel())
        far = (at % 1 - 0.3).abs() - rho > 8e-3  # the needle and its derivatives are below 1e-20 there
        return Needle().at(at), Losses(torch.where(far, 4.0, Needle.curvature))

    losses = Losses(given(Needle.curvature))
    assert 2.0 <= float(certificate(losses, local=local).upper) <= 2.01
    first = sum(visited)
    visited.clear()

    def broken(index, points, offsets, rho):
        values, _ = local(index, points, offsets, rho)
        return values, Losses(torch.full_like(values, 4.0))

    assert float(certificate(losses, local=broken).upper) < 2.0
    assert 0 < sum(visited) < first


def test_the_local_search_reaches_creases_and_borders():
    """|u - 0.3| has its least value on a crease, u its largest at the end of [0, 1]."""

    class Crease(Needle):
        def at(self, u):
            return -(u % 1 - 0.3).abs()

    class Ramp(Needle):
        def origin(self, spacing):
            return spacing / 2

        def at(self, u):
            return u.clamp(0.0, 1.0)

        def chunks(self, counts):
            yield 0, self.at((torch.arange(counts[0], dtype=torch.float64) + 0.5) / counts[0])[None]

    for functions, value, place in ((Crease(), 0.0, 0.3), (Ramp(), 1.0, 1.0)):
        box = Box(given(0.0), given(1.0))
        found = Enclosure(functions, (10,), lambda: Losses(None, given(1.0)), lambda: given(9.0), box=box)
        assert float(found.lower) == pytest.approx(value, abs=1e-7)
        assert float(found.argument) == pytest.approx(place, abs=1e-7)
        assert value <= float(found.upper) <= value + 1e-3


def test_norms_of_scaled_indexed_and_refined_fields_are_computed_once(monkeypatch):
    field = draw((20, 20))
    before = {name: getattr(field.norms(), name).upper for name in NAMES}
    monkeypatch.setattr(enclosure, "ascend", None)
    monkeypatch.setattr(enclosure, "certified", None)
    for other, order in ((-2.0 * field, {}), (field.refined(2), {"displacement": 2.0, "hessian": 0.5})):
        for name in NAMES:
            expected = before[name] * (order.get(name, 1.0) if order else 2.0)
            torch.testing.assert_close(getattr(other.norms(), name).upper, expected, rtol=ROUND_OFF, atol=0)
    torch.testing.assert_close(field[1:].norms().jacobian.upper, before["jacobian"][1:], rtol=0, atol=0)
    torch.testing.assert_close(field.to(dtype=torch.float32).norms().hessian.upper, before["hessian"], rtol=0, atol=0)


def test_norms_of_the_zero_field_are_zero():
    field = st.CompactField(0.0 * draw((20, 20)).inner)
    for name in NAMES:
        assert not getattr(field.norms(), name).lower.any()
        assert not getattr(field.norms(), name).upper.any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24,), (16, 16)])
def test_control_hits_one_norm_or_both(size):
    field = draw(size, cutoff=2, count=2, border=1.0)
    for name in ("displacement", "jacobian"):
        target = torch.tensor([[0.1], [0.4]], dtype=torch.float64)
        solved = st.control(field, **{f"{name}_norm": target})
        assert isinstance(solved, st.CompactField)
        assert solved.batch_shape == (2, 2)
        seen = brute_force(solved[1], per_pixel=6)[NAMES.index(name)]
        torch.testing.assert_close(seen, torch.full((2,), 0.4, dtype=torch.float64), rtol=0.02, atol=0)
        assert bool((seen <= 0.4).all())
        assert bool((getattr(solved.norms(), name).lower <= target).all())
    lower, upper = st.reachable(field)
    both = st.control(field, displacement_norm=1.0, jacobian_norm=(lower * upper).sqrt())
    seen = brute_force(both, per_pixel=6)[NAMES.index("jacobian")]
    torch.testing.assert_close(seen, (lower * upper).sqrt(), rtol=0.02, atol=0)
    assert bool((both.norms().displacement.lower <= 1.0).all())
    with pytest.raises(ValueError, match="must lie in"):
        st.control(field, displacement_norm=1.0, jacobian_norm=0.5 * lower)
