"""Verdicts of ``is_diffeomorphism`` against closed forms, explicit folds and triangulations."""

import math

import pytest
import torch

from stability.deformations.affine import AffineField
from stability.deformations.base import Deformation
from stability.deformations.compact import CompactField
from stability.deformations.diffeomorphism import Diffeomorphism, judge
from stability.deformations.flow import FlowField
from stability.deformations.fourier import FourierField
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.deformations.pointwise import searched
from stability.deformations.thin_plate import ThinPlateField
from stability.deformations.translation import Translation
from stability.grid import coordinates


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fourier(size, count=3, seed=0):
    return FourierField.sample(size, cutoff=2, batch_shape=(count,), generator=generator(seed))


def steep(field, *b):
    return field * (torch.tensor(b, dtype=torch.float64) / field.norms().jacobian.upper)


def wave(p, size=(16, 16)):
    """tau = p cos(omega . u), det(I - grad tau) = 1 + s <p, omega> for s in [-1, 1]."""
    p = torch.tensor([[p]], dtype=torch.float64)
    return FourierField(torch.tensor([[1, 1]]), p, torch.zeros_like(p), size=size)


def oriented(field, oversample):
    """Whether id - tau keeps the orientation of all triangles of a fine grid of the torus or the window."""
    u = coordinates(field.size, oversample=oversample)
    moved = u - field.displacement(u)
    side = torch.tensor(field.size[::-1], dtype=torch.float64)
    right = torch.cat([moved[:, :, 1:], moved[:, :, :1] + side * torch.tensor([1.0, 0.0])], dim=2)
    below = torch.cat([moved[:, 1:], moved[:, :1] + side * torch.tensor([0.0, 1.0])], dim=1)
    corner = torch.cat([right[:, 1:], right[:, :1] + side * torch.tensor([0.0, 1.0])], dim=1)

    def area(a, b):
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

    areas = torch.stack([area(right - moved, corner - moved), area(corner - moved, below - moved)])
    torch.testing.assert_close(areas.sum((0, 2, 3)) / 2, side.prod().expand(len(moved)))  # degree one
    return (areas > 0).all(0).flatten(1).all(1)


@pytest.mark.parametrize("size", [(20,), (16, 16)])
def test_a_jacobian_norm_below_one_suffices(size, monkeypatch):
    field = steep(fourier(size), 0.1, 0.9, 0.999999)
    monkeypatch.setattr(type(field.norms()), "determinant_infimum", None)  # nothing else is computed
    verdict = field.is_diffeomorphism()
    assert bool(verdict)
    assert verdict.verdicts == (True, True, True)
    assert all("< 1, so u - tau(u) is bi-Lipschitz" in why for why in verdict.reasons)
    stated = [float(why.split("<= ")[1].split(" <")[0]) for why in verdict.reasons]
    for value, b in zip(stated, field.norms().jacobian.upper.tolist(), strict=True):
        assert b <= value < 1


def test_a_positive_determinant_suffices_on_the_torus():
    """A shear of any size, and a field with b > 1 whose determinant is certified; both keep all triangles."""
    for field in (wave((5.0, -5.0)), wave((4.0, -3.5))):
        assert float(field.norms().jacobian.lower) > 1
        verdict = field.is_diffeomorphism()
        assert verdict.verdicts == (True,)
        assert "local diffeomorphism of degree one" in verdict.reasons[0]
        assert bool(oriented(field, 8).all())


def test_a_positive_determinant_suffices_where_the_border_stays():
    field = CompactField.sample((16, 16), cutoff=1, batch_shape=(1,), generator=generator(3))
    field = steep(field, 1.02)
    assert float(field.norms().determinant_infimum.upper) > 0
    verdict = field.is_diffeomorphism()
    assert verdict.verdicts == (True,)
    assert "tau = 0 at the border" in verdict.reasons[0]
    assert bool(oriented(field, 8).all())


@pytest.mark.parametrize("kind", ["line", "plane", "compact"])
def test_folds_are_recognised_with_a_point(kind):
    if kind == "compact":
        field = CompactField.sample((16, 16), cutoff=1, batch_shape=(2,), generator=generator(3))
    else:
        field = fourier((20,) if kind == "line" else (16, 16), count=2)
    field = steep(field, 2.5, 4.0)
    verdict = field.is_diffeomorphism()
    assert not bool(verdict)
    assert verdict.verdicts == (False, False)
    assert bool(verdict.fails.all())
    for one, why in zip(field, verdict.reasons, strict=True):
        stated = float(why.split("= ")[1].split(" <")[0])
        place = torch.tensor([float(part) for part in why.split("(")[-1].split(")")[0].split(",")])
        determinant = torch.linalg.det(torch.eye(field.d, dtype=torch.float64) - one.jacobian(place.double()))
        assert float(determinant) == pytest.approx(stated, abs=0.02 * abs(stated) + 1e-3)
        assert stated < 0


def test_a_folded_wave_takes_one_value_three_times():
    """phi(u) = u - a sin(omega u), a omega = 2: phi(0) = 0 = phi(+-v) with sin(omega v) = v / a."""
    omega = 2 * math.pi / 16
    sine = torch.tensor([[[2 / omega]]], dtype=torch.float64)
    field = FourierField(torch.tensor([[1]]), 0 * sine, sine, size=(16,))
    low, high = 0.5 / omega, math.pi / omega
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.sin(omega * middle) > omega * middle / 2 else (low, middle)
    points = torch.tensor([[-low], [0.0], [low]], dtype=torch.float64)
    torch.testing.assert_close(points - field.displacement(points)[0], torch.zeros_like(points), rtol=0, atol=1e-12)
    assert field.is_diffeomorphism().verdicts == (False,)
    assert (0.49 * field).is_diffeomorphism().verdicts == (True,)


def test_piecewise_linear_fields():
    field = steep(
        PiecewiseLinearField.sample((16, 16), cutoff=2, batch_shape=(3,), generator=generator(4)), 0.5, 1.05, 4.0
    )
    assert float(field.norms().determinant_infimum.lower[1]) > 0
    verdict = field.is_diffeomorphism()
    assert verdict.verdicts == (True, True, False)
    assert "homeomorphism, piecewise linear" in verdict.reasons[1]
    assert "on a piece" in verdict.reasons[2]


def test_affine_fields_on_a_window():
    shear = [[1.0, 3.0], [0.0, 1.0]]  # u - tau(u) = B^{-1} u
    turn = [[0.0, -1.0], [1.0, 0.0]]
    flip = [[-1.0, 0.0], [0.0, 1.0]]
    collapse = [[0.0, 0.0], [0.0, 1.0]]
    matrix = torch.eye(2, dtype=torch.float64) - torch.tensor([shear, turn, flip, collapse], dtype=torch.float64)
    verdict = judge(AffineField(matrix, size=(12, 16)))
    assert verdict.verdicts == (True, True, True, None)
    assert "affine" in verdict.reasons[0]
    assert "reverses the orientation" in verdict.reasons[2]
    assert "reverses" not in verdict.reasons[1]
    assert "round-off" in verdict.reasons[3]


@pytest.mark.slow
def test_flows_are_diffeomorphisms_by_construction():
    field = FlowField(steep(fourier((20,), count=2), 1.2, 1.5))
    assert bool((field.norms().jacobian.lower > 1).all())
    verdict = field.is_diffeomorphism()
    assert verdict.reasons == ("by construction of the family",) * 2
    assert verdict.verdicts == (True, True)
    folded = (3.0 * field).is_diffeomorphism()  # three times the displacement is no flow
    assert folded.verdicts == (False, False)


def test_windows_without_a_fixed_border_can_remain_unknown():
    """A turn by 120 degrees with a little bend, by control points: det > 0, but b > 1 and no theorem applies."""
    points = torch.tensor([[2.0, 2.0], [12.0, 2.0], [2.0, 12.0], [12.0, 12.0], [7.0, 5.0]], dtype=torch.float64)
    angle = 2 * math.pi / 3
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    displacements = points - ((points - 7) @ turn.T + 7)
    displacements[-1] += 0.1
    field = ThinPlateField(points, displacements, size=(15, 15))
    assert float(field.norms().jacobian.lower) > 1
    assert float(field.norms().determinant_infimum.upper) > 0
    assert field.is_diffeomorphism().verdicts == (None,)


def test_fields_that_are_seen_only_are_unknown_unless_they_fold(monkeypatch):
    monkeypatch.setattr(FourierField, "derivative_bounds", Deformation.derivative_bounds)
    monkeypatch.setattr(FourierField, "suprema", searched)
    verdict = (wave((1.0, -0.9)) * 1.0).is_diffeomorphism()
    assert verdict.verdicts == (None,)
    assert "not certified" in verdict.reasons[0]
    assert wave((4.0, 4.0)).is_diffeomorphism().verdicts == (False,)


def test_verdicts_have_the_batchs_shape_and_can_be_read():
    field = (fourier((16, 16), count=1)[0] * torch.tensor([[0.1], [20.0]], dtype=torch.float64)).is_diffeomorphism()
    assert field.holds.shape == field.fails.shape == (2, 1)
    assert repr(field).splitlines()[0] == "Diffeomorphism of 2 fields: 1 yes, 1 no, 0 unknown"
    assert repr(field).splitlines()[2].startswith("  [1] no: det(I - grad tau) = -")
    single = Translation((1.0, 2.0)).is_diffeomorphism()
    assert isinstance(single, Diffeomorphism)
    assert single.holds.shape == ()
    assert repr(single) == "Diffeomorphism: yes: ||grad tau|| <= 0 < 1, so u - tau(u) is bi-Lipschitz"
    many = Translation(torch.zeros(20, 2)).is_diffeomorphism()
    assert repr(many).splitlines()[-1] == "  ... 12 more in .reasons"
