"""``FromActivation``: the law of kinks and jumps near cos = 1, what is no activation, what it must be told."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import stability as st
from stability import kernels


def density(t):
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(
    ("f", "kinks"),
    [
        (F.hardtanh, {-1: 1, 1: -1}), (lambda t: F.relu(t - 0.3), {0.3: 1}), (F.softshrink, {-0.5: -1, 0.5: 1}),
        (F.relu6, {0: 1, 6: -1}), (lambda t: F.relu(t - 2), {2: 1}),
    ],
    ids=["hardtanh", "shifted", "softshrink", "relu6", "far"],
)  # fmt: skip
@pytest.mark.parametrize("distance", [1e-4, 1e-6, 1e-9])
def test_near_one_the_slope_falls_like_the_kinks_say(f, kinks, distance):
    """kappa'(1) - kappa'(u) = E[(f'(a) - f'(b))^2] / 2: a sign change of a - t costs s^2, its probability is known."""
    kernel = kernels.FromActivation(f)
    fall = kernel.derivative_at_one - kernel.derivative(torch.tensor(1 - distance, dtype=torch.float64)).item()
    expected = sum(s * s * density(t) for t, s in kinks.items()) * math.sqrt(distance / math.pi)
    assert fall * kernel._square == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize(
    ("f", "jumps"),
    [(torch.round, {k + 0.5: 1 for k in range(-8, 8)}), (lambda t: (t > 0.7).double(), {0.7: 1})],
    ids=["round", "shifted step"],
)
@pytest.mark.parametrize("distance", [1e-4, 1e-6, 1e-9])
def test_near_one_the_kernel_falls_like_the_jumps_say(f, jumps, distance):
    kernel = kernels.FromActivation(f)
    fall = 1 - kernel(torch.tensor(1 - distance, dtype=torch.float64)).item()
    expected = sum(s * s * density(t) for t, s in jumps.items()) * math.sqrt(distance / math.pi)
    assert fall * kernel._square == pytest.approx(expected, rel=3e-3)


def test_small_distances_are_those_of_the_closed_forms():
    x = st.images.load("fashion", count=1, size=(12, 12))
    step, relu = kernels.FromActivation(torch.sign), kernels.FromActivation(torch.relu)
    cases = [(st.GramCKN, step, kernels.Sign(), 1), (st.GramCKN, relu, kernels.ArcCosine(1), 2)]
    cases.append((st.GramNTK, relu, kernels.ArcCosine(1), 2))
    for shift in (0.1, 1e-3, 1e-5):
        y = st.BandLimitedWarp()(x, st.Translation((shift, 0.0), size=(12, 12)))
        for kind, series, closed, depth in cases:
            layers = [tuple(st.Layer(3, 1.5, 1, kernel) for _ in range(depth)) for kernel in (series, closed)]
            found, truth = (kind(st.Architecture(one)).distance(x, y).item() for one in layers)
            assert found == pytest.approx(truth, rel=4e-3)


def test_activations_may_work_in_place():
    u = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert torch.equal(kernels.FromActivation(torch.nn.ReLU(inplace=True))(u), kernels.FromActivation(torch.relu)(u))
    assert torch.allclose(kernels.FromActivation(lambda t: t.mul_(2))(u), u, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (torch.nn.Dropout(), "the same values whenever it is called"),
        (torch.rand_like, "the same values whenever it is called"),
        (lambda t: torch.tanh(t.float()), "must return float64 like its argument, got torch.float32"),
        (lambda t: torch.tanh(t.float()).double(), "smooth between few kinks"),
        (lambda t: torch.sin(1 / t), "smooth between few kinks"),
        (lambda t: t > 0, "must return float64 like its argument, got torch.bool"),
        (lambda t: torch.exp(1j * t), "must return float64 like its argument, got torch.complex128"),
        (lambda t: t.numpy(), "must return a tensor, got ndarray"),
        (lambda t: t.sum(-1), "must be elementwise"),
        (lambda t: torch.exp(t * t / 4), "must be finite, got values up to"),
        (lambda t: torch.exp(t * t / 3), "must be finite, got values up to"),
        (lambda t: 1 / t, "must be finite, got a singularity near 0"),
        (lambda t: ((t > 0.3) & (t < 0.31)).double(), r"kinks=\(\.\.\.\) if all of it is in a narrower place"),
    ],
)
def test_what_is_no_activation_is_told(f, message):
    with pytest.raises(ValueError, match=message):
        kernels.FromActivation(f)(torch.zeros(1, dtype=torch.float64))


def test_a_slowly_growing_activation_knows_its_error():
    """f = exp(c t^2): E[f(a) f(b)] = ((1 - 2 c)^2 - (2 c u)^2)^(-1/2)."""
    c, u = 0.2, torch.tensor([-0.9, 0.3, 0.8], dtype=torch.float64)
    kernel = kernels.FromActivation(lambda t: torch.exp(c * t * t))
    truth = ((1 - 4 * c) / ((1 - 2 * c) ** 2 - (2 * c * u) ** 2)).sqrt()
    error = kernel.error
    assert bool(((kernel(u) - truth).abs() <= error.truncation + error.quadrature).all())
    assert 1e-13 < error.quadrature < 1e-11
