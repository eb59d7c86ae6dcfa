"""Deformations give on a device what they give on the CPU."""

import pytest
import torch
from field_registry import REGISTRY

import stability as st

SIZE = (12, 10)
FAMILIES = sorted(REGISTRY)
SLOW = pytest.param("flow", marks=pytest.mark.slow)  # its norms take seconds
STEERED = [name for name in FAMILIES if REGISTRY[name].knob and name != "saturated"]


def field(name, count=2):
    return REGISTRY[name].draw(SIZE, count, 0, 1.0)


def points(size=SIZE):
    draw = torch.rand(5, len(size), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return draw * torch.tensor(size[::-1], dtype=torch.float64)


@pytest.mark.parametrize("name", FAMILIES)
def test_values_and_derivatives(name, place):
    def values(tau, u):
        moved = (2 * tau).displacement(u) - tau.displacement(u)
        return tau.mean, tau.on_grid(2), moved, tau.jacobian(u), tau.scaled(0.5)[1], -tau, tau.refined(2), tau.flat()

    place.check(values, lambda: (field(name), points()))


@pytest.mark.parametrize("name", [name for name in FAMILIES if REGISTRY[name].smooth])
def test_second_derivatives(name, place):
    place.check(lambda tau, u: tau.hessian(u), lambda: (field(name), points()))


@pytest.mark.parametrize("name", [SLOW if name == "flow" else name for name in FAMILIES])
def test_norms(name, place):
    def norms(tau):
        n = tau.norms()
        return n.displacement, n.jacobian, n.hessian, n.divergence, n.oscillation, tau.volume_preserving

    place.check(norms, lambda: (field(name, 1),))


@pytest.mark.parametrize("name", [SLOW if name == "flow" else name for name in FAMILIES if REGISTRY[name].certified])
def test_diffeomorphisms_and_distortion(name, place):
    def judged(tau):
        verdict = tau.is_diffeomorphism()
        n = tau.norms().distortion
        return verdict.verdicts, n.determinant_infimum, n.contraction, n.weighted_jacobian

    place.check(judged, lambda: (0.1 * field(name, 1),))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("flow", "compact") else n for n in STEERED]
)
def test_control_and_its_gradients(name, place):
    b = 0.1 if name == "max_entropy" else 0.2

    def controlled(tau, a):
        found = st.control(tau, displacement_norm=a, jacobian_norm=b)
        value = found.on_grid().square().sum()
        return found, torch.autograd.grad(value, a) if value.requires_grad else None

    def build():
        return field(name, 1), torch.tensor([0.2], dtype=torch.float64).requires_grad_(name == "fourier")

    place.check(controlled, build, rtol=1e-7)


def test_control_of_one_norm_with_a_shift_and_what_can_be_reached(place):
    def controlled(tau):
        both = st.control(tau, displacement_norm=2.0, jacobian_norm=0.3, shift=(1.0, 0.0))
        return (
            st.control(tau, jacobian_norm=0.3),
            st.control(tau, displacement_norm=[0.5, 1.0]),
            both,
            st.reachable(tau),
        )

    place.check(controlled, lambda: (field("fourier"),), rtol=1e-7)


@pytest.mark.parametrize("name", ["affine", "fourier", "spline", "piecewise_linear", "translation", SLOW])
def test_inverses_compositions_sums_and_batches(name, place):
    def combined(tau, other, u):
        back = st.inverse(tau)
        both = st.compose(tau, other)
        total = tau + other
        return (
            back, back.jacobian(u), both, both.jacobian(u), both.norms().jacobian, total, total.norms().displacement,
            st.compose(tau, back).on_grid().abs() < 1e-8, st.stack([tau, 0.5 * tau]), tau[0],
        )  # fmt: skip

    def build():
        return (
            0.1 * field(name),
            0.1 * field("affine" if name == "affine" else "fourier"),
            points(),
        )

    place.check(combined, build, rtol=1e-7)


def test_solvers_of_inverses(place):
    def inverses(tau):
        return [st.inverse(tau, solver) for solver in (st.FixedPoint(), st.Newton())]

    place.check(inverses, lambda: (st.control(field("fourier"), jacobian_norm=0.3),))


def test_points_boxes_and_masks(place):
    def pushed(tau, u, boxes, masks):
        return st.push_points(tau, u), st.push_boxes(tau, boxes), st.push_masks(tau, masks)

    def build():
        masks = (torch.arange(SIZE[0] * SIZE[1]).reshape(1, *SIZE) // 7 % 3).expand(2, 1, *SIZE)
        boxes = torch.tensor([[[2.0, 3.0, 6.0, 8.0]]], dtype=torch.float64).expand(2, 1, 4)
        return st.control(field("compact"), jacobian_norm=0.3), points().expand(2, -1, -1), boxes, masks

    place.check(pushed, build)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("name", FAMILIES)
def test_files(name, suffix, place, tmp_path):
    def read(tau):
        path = tau.save(tmp_path / f"a.{suffix}", overwrite=True)
        return st.load_deformation(path, device=tau.device), st.load_deformation(path).on_grid().cpu()

    place.check(read, lambda: (field(name),), here=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("translation", "mixed", "saturated")])
def test_a_generator_of_the_gpu_draws_fields_there(name, monkeypatch):
    monkeypatch.setattr("field_registry.rng", lambda seed: torch.Generator("cuda").manual_seed(seed))
    tau = field(name)
    assert tau.device.type == "cuda"
    assert bool(tau.on_grid().isfinite().all())


def test_pictures_and_cards_of_fields(place):
    def shown(tau):
        tau.plot()
        return tau._repr_html_().replace(str(tau.device), "")[:200]

    place.check(shown, lambda: (field("fourier"),))
