"""kappa against closed forms, power series and the Lipschitz law."""

import math
import re

import pytest
import torch

import stability as st
from stability import kernels


def label(value) -> str:
    """Its repr without addresses, which differ from process to process."""
    return re.sub(r" (?:of type object )?at 0x[0-9a-f]+", "", repr(value))


ALL = [
    kernels.Exponential(),
    kernels.Exponential(2.37),
    kernels.InversePolynomial(),
    kernels.Polynomial(2, 1.0),
    kernels.Polynomial(3, 0.5),
    kernels.ArcCosine(1),
    kernels.ArcCosine(0),
    kernels.Linear(),
    kernels.LeakyReLU(0.2),
    kernels.LeakyReLU(1.0),
    kernels.Erf(),
    kernels.Erf(3.0),
    kernels.GELU(),
    kernels.Cosine(1.5),
    kernels.Cosine(1.5, random_phase=False),
    kernels.Sign(),
    kernels.FromActivation(torch.tanh),
    kernels.FromActivation(torch.nn.functional.elu),
]


@pytest.mark.parametrize("kernel", ALL, ids=label)
def test_kappa_is_one_at_one_and_the_argument_survives(kernel):
    u = torch.linspace(-1, 1, 201, dtype=torch.float64)
    before = u.clone()
    value = kernel(u)
    assert torch.equal(u, before)
    assert value[-1].item() == pytest.approx(1.0, abs=1e-15)
    assert (value.diff() >= -1e-15).all() or isinstance(kernel, kernels.Polynomial | kernels.Cosine)
    assert torch.equal(kernel.evaluate_(u), value)
    assert torch.equal(u, value)  # in place


@pytest.mark.parametrize("kernel", [k for k in ALL if math.isfinite(k.derivative_at_one)], ids=label)
def test_derivative_at_one_by_differences(kernel):
    h = 1e-6
    u = torch.tensor([1.0 - h, 1.0], dtype=torch.float64)
    assert kernel(u).diff().item() / h == pytest.approx(kernel.derivative_at_one, rel=2e-3)


@pytest.mark.parametrize("kernel", [k for k in ALL if math.isfinite(k.derivative_at_one)], ids=label)
def test_kernel_map_is_lipschitz_with_rho_and_no_less(kernel, generator):
    z, w = torch.randn(2, 4000, 3, generator=generator, dtype=torch.float64)
    near = z[:2000] / z[:2000].norm(dim=1, keepdim=True)
    far = near + 1e-3 * w[:2000]
    far = far / far.norm(dim=1, keepdim=True)
    z, w = torch.cat([z[2000:], near]), torch.cat([w[2000:], far])
    a, b = z.norm(dim=1), w.norm(dim=1)
    cosine = ((z * w).sum(1) / (a * b)).clamp(-1, 1)
    squared = a**2 + b**2 - 2 * a * b * kernel(cosine)
    ratio = (squared.clamp_min(0).sqrt() / (z - w).norm(dim=1)).max().item()
    assert ratio <= kernel.lipschitz * (1 + 1e-6)
    if kernel.lipschitz > 1:
        assert ratio >= 0.99 * kernel.lipschitz  # sharp: a smaller rho would be caught


def test_step_kernel_is_hoelder_one_half_and_not_lipschitz():
    kernel = kernels.ArcCosine(0)
    angle = torch.logspace(-6, math.log10(math.pi), 200, dtype=torch.float64)
    squared = 2 - 2 * kernel(torch.cos(angle))
    chord = 2 * torch.sin(angle / 2)
    assert (squared.sqrt() <= chord.sqrt() * (1 + 1e-4)).all()
    assert (squared.sqrt() / chord).max() > 100
    assert kernel.lipschitz == math.inf
    assert kernel(torch.tensor([1.0 - 1e-16], dtype=torch.float64)).item() == 1.0


def test_arc_cosine_kernels_are_expectations_over_random_features(generator):
    w = torch.randn(400_000, 2, generator=generator, dtype=torch.float64)
    angle = 1.1
    z = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    relu, step = (w @ z.T).clamp_min(0), ((w @ z.T) > 0).double()
    u = torch.tensor(math.cos(angle), dtype=torch.float64)
    assert kernels.ArcCosine(1)(u).item() == pytest.approx(2 * (relu[:, 0] * relu[:, 1]).mean().item(), abs=0.01)
    assert kernels.ArcCosine(0)(u).item() == pytest.approx(2 * (step[:, 0] * step[:, 1]).mean().item(), abs=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kernels.Exponential(0.0),
        lambda: kernels.Exponential(math.nan),
        lambda: kernels.Polynomial(0),
        lambda: kernels.Polynomial(2, -1.0),
        lambda: kernels.ArcCosine(2),
        lambda: kernels.LeakyReLU(math.inf),
        lambda: kernels.Erf(0.0),
        lambda: kernels.Cosine(-1.0),
        lambda: kernels.Cosine(1.0, random_phase=1),
        lambda: kernels.FromActivation("tanh"),
        lambda: kernels.FromActivation(torch.tanh, kinks=0.0),
        lambda: kernels.FromActivation(torch.tanh, degree=0),
        lambda: kernels.FromActivation(torch.zeros_like).lipschitz,
        lambda: kernels.FromActivation(torch.log).lipschitz,
        lambda: kernels.FromActivation(torch.sum).lipschitz,
    ],
)
def test_parameters_out_of_range_are_told(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_equal_kernels_hash_equally():
    assert {kernels.Exponential(1), kernels.Exponential(1.0)} == {kernels.Exponential()}


@pytest.mark.parametrize(
    ("value", "slope", "message"),
    [
        (lambda u: 2 * u, 2.0, r"kappa\(1\) of Own must be 1"),
        (lambda u: 1 - 2 * (1 - u) ** 2, 4.0, "at most 1"),
        (lambda u: u**9, 2.0, "derivative_at_one of Own"),
        (lambda u: u / 0.0, 1.0, "finite"),
        (lambda u: u**9, 9.0, None),
        (lambda u: u**9, 8.9, "derivative_at_one of Own"),
    ],
)
def test_a_users_kernel_that_breaks_the_theorems_hypotheses_is_refused(value, slope, message):
    class Own(kernels.Kernel):
        derivative_at_one = slope

        def evaluate_(self, cosine):
            return cosine.copy_(value(cosine))

    arch = st.Architecture((st.Layer(3, 1.0, kernel=Own()),))
    if message is None:
        st.GramCKN(arch)
    else:
        with pytest.raises(ValueError, match=message):
            st.GramCKN(arch)
