"""Dual kernels E[f(a) f(b)] / E[f(a)^2] against quadrature over the plane, Monte Carlo, Taylor series and laws."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import stability as st
from stability import kernels
from stability.activations import SmoothedReLU
from stability.operators.kernel_map import check_kernel, inverse_root, kernel_map
from stability.plain_data import build, describe, plain


def label(value) -> str:
    """Its repr without addresses, which differ from process to process."""
    return re.sub(r" (?:of type object )?at 0x[0-9a-f]+", "", repr(value))


U = torch.cat(
    [torch.linspace(-1, 1, 401, dtype=torch.float64), 1 - torch.logspace(-15, -3, 40, dtype=torch.float64)]
)  # fmt: skip
SMOOTH = [
    (torch.erf, kernels.Erf()),
    (lambda t: torch.erf(0.4 * t), kernels.Erf(0.4)),
    (F.gelu, kernels.GELU()),
    (lambda t: torch.cos(1.3 * t), kernels.Cosine(1.3, random_phase=False)),
    (lambda t: t, kernels.Linear()),
    (lambda t: torch.exp(0.8 * t), kernels.Exponential(0.64)),
]
KINKED = [
    (torch.relu, kernels.ArcCosine(1)),
    (lambda t: F.leaky_relu(t, 0.2), kernels.LeakyReLU(0.2)),
    (lambda t: F.leaky_relu(t, -0.5), kernels.LeakyReLU(-0.5)),
    (torch.abs, kernels.LeakyReLU(-1.0)),
]
JUMPING = [(torch.sign, kernels.Sign()), (lambda t: (t > 0).double(), kernels.ArcCosine(0))]
CLOSED = [*SMOOTH, *KINKED, *JUMPING]


def bivariate(f, kinks, u, points=20):
    """E[f(a) f(b)] by Gauss-Legendre on pieces, in a = c p - s q, b = c p + s q with independent p and q.

    For fixed p the kinks are at q = +-(k - c p) / s; they cross at p = (k + k') / (2 c), in layers of width s / c.
    """
    c, s, reach = math.sqrt((1 + u) / 2), math.sqrt((1 - u) / 2), 12.0
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(points))

    def rule(edges):
        half = (edges[..., 1:] - edges[..., :-1])[..., None] / 2
        x = (edges[..., 1:] + edges[..., :-1])[..., None] / 2 + half * nodes
        return x.flatten(-2), (half * weights * (-0.5 * x**2).exp() / math.sqrt(2 * math.pi)).flatten(-2)

    grid = torch.linspace(-reach, reach, 25, dtype=torch.float64)
    steps = [0.25 * s / c * 2**j for j in range(40) if 0.25 * s / c * 2**j < 1]
    layers = [
        (k + m) / (2 * c) + sign * step for k in kinks for m in kinks for step in [0.0, *steps] for sign in (-1, 1)
    ]
    p, outer = rule(torch.cat([grid, torch.tensor(layers, dtype=torch.float64)]).clamp(-reach, reach).unique())
    crossing = (torch.tensor(kinks, dtype=torch.float64) - c * p[:, None]) / s
    edges = torch.cat([grid.expand(len(p), -1), crossing, -crossing], 1).clamp(-reach, reach).sort(1).values
    q, inner = rule(edges)
    return float((outer * (f(c * p[:, None] - s * q) * f(c * p[:, None] + s * q) * inner).sum(1)).sum())


def square(f, kinks):
    """E[f(a)^2] as the limit of the pair."""
    return bivariate(f, kinks, 1 - 1e-15)


@pytest.mark.parametrize(
    ("f", "kernel"), CLOSED, ids=lambda value: repr(value) if dataclasses.is_dataclass(value) else ""
)
@pytest.mark.parametrize("u", [-0.999, -0.6, 0.0, 0.3, 0.95, 1 - 1e-6])
def test_closed_forms_are_expectations_over_the_plane(f, kernel, u):
    jump = kernel in (kernels.Sign(), kernels.ArcCosine(0))
    norm = {kernels.Sign(): 1.0, kernels.ArcCosine(0): 0.5}[kernel] if jump else square(f, (0.0,))
    assert kernel(torch.tensor(u, dtype=torch.float64)).item() == pytest.approx(
        bivariate(f, (0.0,), u) / norm, abs=3e-14
    )


@pytest.mark.parametrize(
    ("f", "kernel"), CLOSED, ids=lambda value: repr(value) if dataclasses.is_dataclass(value) else ""
)
def test_closed_forms_are_means_over_random_pairs(f, kernel, generator):
    a, xi = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    u = -0.35
    products = f(a) * f(u * a + math.sqrt(1 - u * u) * xi)
    mean, error = products.mean().item(), products.std().item() / math.sqrt(len(a))
    scale = f(a).square().mean().item()
    assert kernel(torch.tensor(u, dtype=torch.float64)).item() == pytest.approx(
        mean / scale, abs=5 * error / scale + 4e-3
    )


def test_a_random_phase_makes_cosine_features_gaussian(generator):
    z, w = torch.randn(2, 500, 4, generator=generator, dtype=torch.float64)
    u = F.cosine_similarity(z, w)
    assert torch.allclose(kernels.Cosine(1.7)(u), kernels.Exponential(1.7**2)(u), rtol=0, atol=1e-15)
    a, xi = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(400_000, generator=generator, dtype=torch.float64)
    value = (2 * torch.cos(1.7 * a + phase) * torch.cos(1.7 * (0.5 * a + math.sqrt(0.75) * xi) + phase)).mean().item()
    assert kernels.Cosine(1.7)(torch.tensor(0.5, dtype=torch.float64)).item() == pytest.approx(value, abs=0.01)
    images = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    grams = [
        st.GramCKN(st.Architecture((st.Layer(3, 1.0, kernel=kernel),)))
        for kernel in (kernels.Cosine(1.2), kernels.Exponential(1.2**2))
    ]
    one, other = (gram.distance(images[:1], images[1:]).item() for gram in grams)
    assert one == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize(
    ("f", "kernel"), SMOOTH, ids=lambda value: repr(value) if dataclasses.is_dataclass(value) else ""
)
def test_the_series_of_a_smooth_activation_is_its_closed_form(f, kernel):
    series = kernels.FromActivation(f)
    assert torch.allclose(series(U), kernel(U), rtol=0, atol=1e-14)
    assert torch.allclose(series.derivative(U), kernel.derivative(U), rtol=0, atol=1e-13)
    assert series.derivative_at_one == pytest.approx(kernel.derivative_at_one, rel=1e-12)
    assert series.error.truncation + series.error.quadrature < 1e-14


@pytest.mark.parametrize(
    ("f", "kernel"), KINKED + JUMPING, ids=lambda value: repr(value) if dataclasses.is_dataclass(value) else ""
)
@pytest.mark.parametrize("degree", [7, 40, 128])
def test_the_series_of_a_kinked_activation_is_off_by_no_more_than_it_says(f, kernel, degree):
    series = kernels.FromActivation(f, degree=degree)
    off = (series(U) - kernel(U)).abs().max().item()
    assert 0 < off <= series.error.truncation + series.error.quadrature
    assert off <= series.error.truncation / 5  # the law of the high degrees is nearer than what is proved
    inner = U[1:380]
    slope = (series.derivative(inner) - kernel.derivative(inner)).abs().max().item()
    assert slope <= series.error.slope
    assert series(U)[400].item() == pytest.approx(1.0, abs=1e-14)
    assert series(U)[0].item() == pytest.approx(kernel(U)[0].item(), abs=1e-14)
    if math.isfinite(kernel.derivative_at_one):
        assert series.derivative(U)[400].item() == pytest.approx(kernel.derivative_at_one, rel=1e-10)
    assert series.derivative_at_one == pytest.approx(kernel.derivative_at_one, rel=1e-12)


def test_a_degree_below_the_necessary_one_is_seen_in_the_error():
    coarse, fine = kernels.FromActivation(torch.erf, degree=15), kernels.FromActivation(torch.erf)
    assert (coarse(U) - fine(U)).abs().max() <= coarse.error.truncation
    assert coarse.error.truncation > 1e-7


def test_weights_are_the_taylor_coefficients_of_the_closed_form():
    beta = 2 / 3
    taylor = [
        math.comb(2 * k, k) / (4**k * (2 * k + 1)) * beta ** (2 * k + 1) / math.asin(beta) for k in range(30)
    ]  # asin(beta u) / asin(beta)
    weights = kernels.FromActivation(torch.erf).weights
    assert weights[1::2][:30] == pytest.approx(taylor, abs=1e-15)
    assert max(weights[0::2]) < 1e-30
    relu = kernels.FromActivation(torch.relu)
    even = [1.0] + [math.comb(2 * k, k) / (4**k * (2 * k + 1) * (2 * k + 2)) for k in range(59)]  # u asin u + root
    assert relu.weights[0:120:2] == pytest.approx([value / math.pi for value in even], abs=1e-15)
    assert math.fsum(relu.weights) + math.fsum(weight for _, weight in relu.tail) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("kinks", [(), (0.3,)])
def test_kinks_that_nobody_named_are_found(kinks):
    k, phi = 0.3, math.exp(-0.045) / math.sqrt(2 * math.pi)
    tail = 0.5 * math.erfc(k / math.sqrt(2))
    kernel = kernels.FromActivation(lambda t: torch.relu(t - k), kinks=kinks)
    assert kernel.derivative_at_one == pytest.approx(tail / ((1 + k * k) * tail - k * phi), rel=1e-11)
    for u in (-0.9, 0.2, 0.999):
        exact = bivariate(lambda t: torch.relu(t - k), (k,), u) / ((1 + k * k) * tail - k * phi)
        value = kernel(torch.tensor(u, dtype=torch.float64)).item()
        assert value == pytest.approx(exact, abs=kernel.error.truncation + 1e-13)


@pytest.mark.parametrize(
    "f",
    [torch.sign, lambda t: t + 1e-3 * (t > 0.7), lambda t: t.abs().sqrt(), torch.round],
    ids=["sign", "small", "root", "round"],
)
def test_an_activation_that_is_not_lipschitz_has_an_infinite_slope(f):
    kernel = kernels.FromActivation(f)
    assert kernel.derivative_at_one == math.inf
    assert kernel.lipschitz == math.inf


def test_a_constant_coefficient_is_allowed():
    kernel = kernels.FromActivation(lambda t: 1 + 0.1 * torch.tanh(t))
    assert kernel(torch.zeros((), dtype=torch.float64)).item() > 0.9
    assert kernel.lipschitz == 1.0
    constant = kernels.FromActivation(torch.ones_like)
    assert torch.allclose(constant(U), torch.ones_like(U), rtol=0, atol=1e-14)


EVERY = [kernel for _, kernel in CLOSED] + [
    kernels.Exponential(2.0), kernels.InversePolynomial(), kernels.Polynomial(3, 0.5), kernels.Polynomial(1, 0.0),
    kernels.Cosine(1.5), kernels.LeakyReLU(1.0), kernels.FromActivation(torch.tanh), kernels.FromActivation(F.elu),
    kernels.FromActivation(F.hardtanh, kinks=(-1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("kernel", EVERY, ids=label)
def test_gram_matrices_are_positive_semidefinite(kernel, generator):
    z = F.normalize(torch.randn(150, 3, generator=generator, dtype=torch.float64), dim=1)
    gram = kernel((z @ z.T).fill_diagonal_(1.0))
    assert torch.linalg.eigvalsh(gram).min().item() > -1e-12


@pytest.mark.parametrize("kernel", EVERY, ids=label)
def test_derivatives_in_place_are_those_of_kappa(kernel):
    u = torch.linspace(-0.98, 0.98, 99, dtype=torch.float64)
    h = 1e-5
    for value, slope in ((kernel, kernel.derivative_), (kernel.derivative, kernel.second_derivative_)):
        differences = (value(u + h) - value(u - h)) / (2 * h)
        given = u.clone()
        assert slope(given) is given
        assert torch.allclose(given, differences, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", EVERY, ids=label)
def test_gradients_agree_with_differences_twice(kernel):
    u = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64, requires_grad=True)
    in_place = [lambda x: kernel.evaluate_(x.clone()), lambda x: kernel.derivative_(x.clone())]
    for function in (kernel, kernel.derivative, *in_place):
        assert torch.autograd.gradcheck(function, (u,))
    assert torch.autograd.gradgradcheck(kernel, (u,))


@pytest.mark.parametrize("kernel", [k for k in EVERY if math.isfinite(k.derivative_at_one)], ids=label)
def test_the_gradient_at_cosine_one_is_finite_and_right(kernel):
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(kernel(one), one)
    assert slope.item() == pytest.approx(kernel.derivative_at_one, rel=1e-10)
    z = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64, requires_grad=True)
    w = z.detach().clone()
    inner = (z @ w) / (z.norm() * w.norm())
    (gradient,) = torch.autograd.grad(z.norm() * w.norm() * kernel(inner), z)
    assert torch.allclose(gradient, w, rtol=1e-12, atol=1e-12)  # the cosine is largest there: only |z| moves K


def test_differentiating_acos_and_the_root_one_by_one_gives_nan_there():
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    naive = (one * (math.pi - one.acos()) + (1 - one * one).sqrt()) / math.pi
    assert not math.isfinite(torch.autograd.grad(naive, one)[0].item())


def test_gradients_flow_through_the_kernel_map_of_an_arc_cosine_layer(generator):
    anchors = F.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=1)
    patches = torch.cat([anchors.T, torch.randn(3, 2, generator=generator, dtype=torch.float64)], 1)[None]
    root = inverse_root(kernels.ArcCosine(1), anchors)
    patches = patches.requires_grad_()
    (gradient,) = torch.autograd.grad(kernel_map(kernels.ArcCosine(1), anchors, root, patches).sum(), patches)
    assert torch.isfinite(gradient).all()
    assert torch.autograd.gradcheck(
        lambda z: kernel_map(kernels.ArcCosine(1), anchors, root, z), (patches[..., 4:].detach().requires_grad_(),)
    )


def test_arc_cosine_one_is_exact_to_two_units_in_the_last_place(generator):
    r = torch.rand(600, generator=generator, dtype=torch.float64)
    u = torch.cat([2 * r - 1, 1 - 10 ** (-16 * r), -1 + 10 ** (-16 * r)])
    with mpmath.workdps(40):
        exact = [
            float((v * (mpmath.pi - mpmath.acos(v)) + mpmath.sqrt(1 - v * v)) / mpmath.pi)
            for v in map(mpmath.mpf, u.tolist())
        ]
        step = [float(1 - mpmath.acos(v) / mpmath.pi) for v in map(mpmath.mpf, u.tolist())]
    assert (kernels.ArcCosine(1)(u) - torch.tensor(exact, dtype=torch.float64)).abs().max() <= 4.5e-16
    away = u.abs() < 1 - 2e-15
    assert (kernels.ArcCosine(0)(u) - torch.tensor(step, dtype=torch.float64))[away].abs().max() <= 4.5e-16


@pytest.mark.parametrize(
    "kernel", [kernels.ArcCosine(1), kernels.ArcCosine(0), kernels.LeakyReLU(0.3), kernels.Sign()], ids=label
)
def test_the_ends_are_exact_and_round_off_beyond_them_does_no_harm(kernel):
    ends = torch.tensor([1.0, 1 + 4e-16, -1.0, -1 - 4e-16], dtype=torch.float64)
    minus = {"ArcCosine": 0.0, "LeakyReLU": -0.6 / 1.09, "Sign": -1.0}[type(kernel).__name__]
    assert kernel(ends).tolist() == pytest.approx([1.0, 1.0, minus, minus], abs=2e-16)
    assert torch.isnan(kernel(torch.tensor([math.nan], dtype=torch.float64))).all()


def test_kappa_one_has_the_step_kernel_as_its_derivative():
    assert torch.equal(kernels.ArcCosine(1).derivative(U), kernels.ArcCosine(0)(U))
    slope = kernels.ArcCosine(0).derivative(torch.tensor([1.0, 0.6, 0.0, -1.0], dtype=torch.float64))
    assert slope.tolist() == pytest.approx([math.inf, 1 / (0.8 * math.pi), 1 / math.pi, math.inf])


@pytest.mark.parametrize(
    "kernel", [kernels.ArcCosine(1), kernels.GELU(), kernels.FromActivation(torch.tanh)], ids=label
)
def test_blocks_of_every_shape_layout_and_size_are_evaluated_entry_by_entry(kernel, generator):
    u = 2 * torch.rand(300, 500, generator=generator, dtype=torch.float64) - 1  # more than two chunks
    expected = kernel(u)
    some = torch.stack([kernel(x) for x in u.view(-1)[::5003]])
    assert torch.allclose(expected.view(-1)[::5003], some, rtol=0, atol=1e-15)
    turned = u.T.clone().T
    assert kernel.evaluate_(turned) is turned
    assert torch.allclose(turned, expected, rtol=0, atol=1e-15)
    wide = torch.zeros(300, 700, dtype=torch.float64)
    wide[:, :500] = u
    kernel.evaluate_(wide[:, :500])
    assert torch.allclose(wide[:, :500], expected, rtol=0, atol=1e-15)
    assert (wide[:, 500:] == 0).all()
    assert kernel(u[:0]).shape == (0, 500)
    assert torch.allclose(kernel(u.float()), expected.float(), rtol=0, atol=3e-6)


def test_a_users_kernel_gets_its_derivative_from_automatic_differentiation():
    class Square(kernels.Kernel):
        derivative_at_one = 2.0

        def evaluate_(self, cosine):
            return cosine.pow_(2)

    kernel = check_kernel(Square())
    u = torch.linspace(-1, 1, 5, dtype=torch.float64)
    assert torch.allclose(kernel.derivative(u), 2 * u)
    assert torch.allclose(kernel.second_derivative_(u.clone()), torch.full_like(u, 2.0))
    assert torch.autograd.gradgradcheck(kernel, (u.requires_grad_(),))

    class Overwritten(Square):
        def evaluate_(self, cosine):
            return cosine.copy_(cosine.exp().sin() * cosine)

    with pytest.raises(ValueError, match="define derivative_ of Overwritten"):
        Overwritten().derivative(u.detach())


def test_wrong_slopes_are_caught():
    class Steeper(kernels.FromActivation):
        @property
        def derivative_at_one(self):
            return 1.1  # tanh has 1.178

    class Wrong(kernels.GELU):
        def derivative_(self, cosine):
            return super().derivative_(cosine).mul_(1.1)

    assert check_kernel(kernels.FromActivation(torch.tanh)) is not None
    with pytest.raises(ValueError, match="derivative_at_one of Steeper"):
        check_kernel(Steeper(torch.tanh))
    with pytest.raises(ValueError, match="derivative_ of Wrong"):
        check_kernel(Wrong())


@pytest.mark.parametrize(
    "kernel", [*EVERY[1:3], *EVERY[6:], kernels.FromActivation(SmoothedReLU(2.0), kinks=[0])], ids=label
)
def test_plain_data_and_back(kernel):
    written = json.loads(json.dumps(st.Architecture((st.Layer(3, 1.0, kernel=kernel),)).to_dict()))
    again = st.Architecture.from_dict(written).layers[0].kernel
    assert again == kernel
    assert hash(again) == hash(kernel)
    assert plain(again) == plain(kernel)
    assert describe(kernel).startswith(written["layers"][0]["kernel"]["kind"])


def test_an_activation_without_a_name_cannot_be_written_but_used(generator):
    lambda_kernel = kernels.FromActivation(lambda t: F.gelu(t))
    arch = st.Architecture((st.Layer(3, 1.0, kernel=lambda_kernel),))
    with pytest.raises(ValueError, match="define it by def at the top of a module"):
        arch.to_dict()
    x, y = torch.rand(2, 1, 1, 8, 8, generator=generator, dtype=torch.float64)
    closed = arch.replace("layers.0.kernel", {"kind": "gelu"})
    assert st.GramCKN(arch).distance(x, y).item() == pytest.approx(st.GramCKN(closed).distance(x, y).item(), rel=1e-10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "from_activation"}, "key 'activation'"),
        ({"kind": "from_activation", "activation": "torch.thanh"}, "package.module.function"),
        ({"kind": "from_activation", "activation": "torch.pi"}, "function of a tensor"),
        ({"kind": "from_activation", "activation": {"class_path": "torch.nn.ReLU"}}, "Activation"),
        ({"kind": "leaky_rel", "slope": 0.1}, "leaky_relu"),
    ],
)
def test_wrong_plain_data_are_told(data, message):
    from stability.plain_data import KERNELS

    with pytest.raises(ValueError, match=message):
        build("kernel", data, KERNELS)


def test_closed_forms_need_no_torch():
    code = (
        "import sys; from stability import kernels as k; all = (k.LeakyReLU(), k.GELU(), k.Erf(), k.Cosine(2.0)); "
        "print([round(x.lipschitz, 4) for x in all], 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[1.0, 1.0354, 1.1071, 2.0] False"
