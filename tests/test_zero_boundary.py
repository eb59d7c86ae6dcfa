"""Zeros beyond the border: operators by definition, exact kernels by loops, laws, and what the theorem covers."""

import dataclasses
import itertools
import math
import random

import mpmath
import pytest
import torch
from oracles import KERNELS, LIPSCHITZ, brute_force, line_taps, tangent_kernel, toeplitz
from torch.nn import functional

import stability as st
from stability import kernels
from stability.bounds import joint_commutator
from stability.bounds.rung import Status
from stability.operators.convolution import filtered
from stability.operators.gaussian_taps import gaussian_taps
from stability.operators.patches import extract_patches, shifted
from stability.operators.pooling import pooling_matrix, sampling_gains
from stability.representations import pair_blocks, pair_plan, pair_sums

ROUND_OFF = 1e-12
ZERO = st.Zero()
RELU = kernels.ArcCosine(1)


def network(kernel, depth, stride, patch=3, front_end=None, boundary=ZERO):
    layers = tuple(st.Layer(patch, 1.0 + k, stride, kernel) for k in range(depth))
    return st.Architecture(layers, 1.0, boundary, front_end)


def pair(generator, size, channels=2):
    draw = torch.randn(2, 1, channels, *size, generator=generator, dtype=torch.float64)
    return draw[0] + 0.5, draw[1] + 0.5


# operators


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 2.0, 2.8, 2.9, 10.0])
def test_taps_are_the_integrals_of_the_symbol(sigma):
    """By the Faddeeva function, and by quadrature with 30 digits; phases of a thousand radians are reduced well."""
    taps = gaussian_taps(600, sigma)
    assert torch.allclose(taps, torch.tensor(line_taps(600, sigma), dtype=torch.float64), rtol=0, atol=1e-14)
    with mpmath.workdps(30):
        for j in (0, 7, 31):
            panels = [mpmath.pi * k / (j + 2) for k in range(j + 3)]
            integral = mpmath.quad(lambda w, j=j: mpmath.exp(-((sigma * w) ** 2) / 2) * mpmath.cos(j * w), panels)
            assert abs(float(integral / mpmath.pi) - float(taps[j])) < 2e-16


def test_pooling_is_the_compression_of_a_long_torus():
    """On a torus of 4000 points the symbol's samples are so dense that periodic copies are far away."""
    long = pooling_matrix(4000, 3.0)[:20, :20]
    assert torch.allclose(pooling_matrix(20, 3.0, 1, ZERO), long, rtol=0, atol=1e-15)
    assert torch.equal(pooling_matrix(20, 3.0, 3, ZERO), pooling_matrix(20, 3.0, 1, ZERO)[::3])
    assert torch.equal(pooling_matrix(6, 0.0, 2, ZERO), torch.eye(6, dtype=torch.float64)[::2])


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0, 30.0])
def test_pooling_is_symmetric_and_does_not_expand(sigma):
    a = pooling_matrix(17, sigma, 1, ZERO)
    values = torch.linalg.eigvalsh(a)
    assert torch.equal(a, a.T)
    assert values[0] > -1e-15
    assert values[-1] < 1
    assert a.sum(1)[0] < 0.95


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [(12,), (8, 13)], ids=str)
def test_what_a_stride_adds_is_at_most_what_it_adds_on_the_line(sigma, size):
    arch = st.Architecture((st.Layer(3, sigma, 2), st.Layer(3, sigma, 3)), 1.0, ZERO)
    line = [
        st.bounds.sampling_gain(sigma, before, after, len(size)) for before, after in itertools.pairwise(arch.spacings)
    ]
    for gain, most in zip(sampling_gains(arch, size), line, strict=True):
        assert 1 <= gain <= max(1.0, most) * (1 + 1e-12)


@pytest.mark.parametrize("patch_size", [1, 2, 3, 4, 5])
def test_patches_read_zeros_and_do_not_expand(patch_size, generator):
    x = torch.randn(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    patches = extract_patches(x, patch_size, 2, 1, ZERO)
    before, after = (patch_size - 1) // 2, patch_size // 2
    unfolded = functional.unfold(functional.pad(x, (before, after, before, after)), patch_size)  # channels outer
    expected = unfolded.view(2, 3, patch_size**2, 6, 7).transpose(1, 2).flatten(1, 2) / patch_size
    assert torch.equal(patches, expected)
    assert patches.norm() <= x.norm()


def test_a_shift_beyond_the_window_leaves_nothing():
    x = torch.ones(2, 5)
    assert shifted(x, (0, 5), ZERO).abs().sum() == 0
    assert shifted(x, (-7, 1), ZERO).abs().sum() == 0


@pytest.mark.parametrize(("d", "patch_size", "dilation"), [(1, 3, 1), (2, 2, 1), (2, 3, 2)])
def test_a_convolution_is_patches_times_a_matrix(d, patch_size, dilation, generator):
    y = torch.randn(2, 3, *(8, 10)[:d], generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 3 * patch_size**d, generator=generator, dtype=torch.float64)
    patches = extract_patches(y, patch_size, d, dilation, ZERO)
    expected = torch.einsum("mp,bp...->bm...", weight, patches)
    assert torch.allclose(filtered(y, weight, patch_size, d, dilation, ZERO), expected, atol=1e-13)


# exact kernels


def six_loops(arch, x, y):
    """K(x, y) of images ``(C, H, W)`` by the definitions, position by position; norms from K(x, x), K(y, y)."""
    h, w = x.shape[1:]
    positions = list(itertools.product(range(h), range(w)))
    a = torch.kron(toeplitz(h, arch.antialiasing), toeplitz(w, arch.antialiasing))
    images = {"x": (x.flatten(1) @ a).T, "y": (y.flatten(1) @ a).T}
    names = ("xx", "xy", "yy")
    gram = {p + q: images[p] @ images[q].T for p, q in names}
    for layer in arch.layers:
        e = layer.patch_size
        offsets = range(-((e - 1) // 2), e // 2 + 1)
        means = {}
        for name in names:
            mean = torch.zeros(h * w, h * w, dtype=torch.float64)
            for i, (u0, u1) in enumerate(positions):
                for j, (v0, v1) in enumerate(positions):
                    for c0 in offsets:
                        for c1 in offsets:
                            p, q = (u0 + c0, u1 + c1), (v0 + c0, v1 + c1)
                            if p in positions and q in positions:
                                mean[i, j] += gram[name][positions.index(p), positions.index(q)] / e**2
            means[name] = mean
        a = torch.kron(toeplitz(h, layer.pooling_scale), toeplitz(w, layer.pooling_scale))
        for p, q in names:
            size = means[p * 2].diagonal().sqrt()[:, None] * means[q * 2].diagonal().sqrt()
            cosine = (means[p + q] / size).clamp(-1, 1)
            if p == q:
                cosine.fill_diagonal_(1.0)
            gram[p + q] = a @ (size * layer.kernel(cosine)) @ a.T
    return {name: float(g.trace()) for name, g in gram.items()}


@pytest.mark.parametrize("kernel", [kernels.Exponential(2.0), RELU], ids=repr)
@pytest.mark.parametrize("patch", [2, 3])
def test_kernel_equals_six_loops(kernel, patch, generator):
    arch = network(kernel, 2, 1, patch)
    x, y = pair(generator, (3, 4))
    gram, truth = st.GramCKN(arch), six_loops(arch, x[0], y[0])
    assert abs(gram.kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]
    assert abs(gram.norm(x).item() ** 2 - truth["xx"]) <= ROUND_OFF * truth["xx"]


@pytest.mark.parametrize("size", [(12,), (8, 12)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernel_equals_dense_matrices(kernel, depth, stride, size, generator):
    arch = network(kernel, depth, stride, patch=2 if depth == 3 else 3)
    x, y = pair(generator, size)
    gram, truth = st.GramCKN(arch), brute_force(arch, x[0], y[0])
    assert abs(gram.kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]
    assert abs(gram.norm(x).item() ** 2 - truth["xx"]) <= ROUND_OFF * truth["xx"]
    squared = truth["xx"] + truth["yy"] - 2 * truth["xy"]
    assert abs(gram.distance(x, y).item() ** 2 - squared) <= 4 * ROUND_OFF * truth["xx"]


@pytest.mark.parametrize("size", [(12,), (8, 12)], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernels_see_the_border(kernel, size, generator):
    """By dense matrices of both boundaries: the claim above would fail for the network of the torus."""
    arch, (x, y) = network(kernel, 2, 2), pair(generator, size)
    zero, torus = (brute_force(dataclasses.replace(arch, boundary=own), x[0], y[0]) for own in (ZERO, st.Periodic()))
    assert abs(torus["xy"] - zero["xy"]) > 1e-3 * zero["xx"]


@pytest.mark.parametrize("size", [(9,), (6, 9)], ids=str)
def test_mean_removal_odd_sides_and_a_last_stride_with_remainder(size, generator):
    layers = (st.Layer(3, 1.0, 3), st.Layer(2, 2.0, 2, RELU))
    arch = st.Architecture(layers, 0.7, ZERO, st.front_ends.MeanRemoval())
    x, y = pair(generator, size)
    truth = brute_force(arch, x[0], y[0])
    assert abs(st.GramCKN(arch).kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]


@pytest.mark.parametrize("size", [(12,), (8, 8)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tangent_kernel_equals_dense_matrices(depth, stride, size, generator):
    arch = network(RELU, depth, stride, patch=2 if depth == 3 else 3)
    x, y = pair(generator, size)
    ntk, truth = st.GramNTK(arch), tangent_kernel(arch, x[0], y[0], lambda u: 1 - torch.acos(u) / math.pi)
    assert abs(ntk.kernel(x, y).item() - truth["xy"]) <= ROUND_OFF * truth["xx"]
    assert abs(ntk.norm(x).item() ** 2 - truth["xx"]) <= ROUND_OFF * truth["xx"]


@pytest.mark.parametrize("tangent", [False, True])
def test_small_blocks_change_nothing(tangent, generator, monkeypatch):
    arch = network(RELU if tangent else kernels.Exponential(2.0), 2, 2)
    phi = st.GramNTK(arch) if tangent else st.GramCKN(arch)
    x, y = pair(generator, (8, 12))
    values = phi.kernel(x, y), phi.norm(x)
    monkeypatch.setattr(pair_sums, "WAITING_ENTRIES", 3 * 8 * 24)
    monkeypatch.setattr(pair_blocks, "BLOCK_ENTRIES", 3 * 200)
    lean = type(phi)(arch)
    assert torch.allclose(lean.kernel(x, y), values[0], rtol=1e-12, atol=0)
    assert torch.allclose(lean.norm(x), values[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("representation", [st.GramCKN, st.GramNTK])
@pytest.mark.parametrize("size", [(8,), (6, 8)], ids=str)
def test_gradients_are_those_of_finite_differences(representation, size, generator):
    reference = representation(network(RELU, 2, 2)).reference
    x, y = pair(generator, size)
    phi = reference(x)
    y.requires_grad_()
    value = phi.distance(y)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    assert torch.allclose(value.detach(), phi.distance(y.detach()), rtol=1e-10)
    step = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        difference = (phi.distance(y + 1e-5 * step) - phi.distance(y - 1e-5 * step)) / 2e-5
    assert (gradient * step).sum().item() == pytest.approx(difference.item(), rel=1e-6)


# laws


def test_in_a_wide_frame_of_zeros_it_is_the_torus(generator):
    """What reaches the border or comes round the torus is the Gaussian's tail; a scale as wide as the frame is seen."""
    x, y = (functional.pad(z, (32, 32)) for z in pair(generator, (8,), channels=1))
    apart = []
    for sigma in (2.0, 20.0):
        layers = (st.Layer(3, 2.0, 1, kernels.Exponential(2.0)), st.Layer(3, sigma, 1, RELU))
        arch = st.Architecture(layers, 2.0, ZERO)
        zero, torus = st.GramCKN(arch), st.GramCKN(dataclasses.replace(arch, boundary=st.Periodic()))
        apart.append((zero.distance(x, y) / torus.distance(x, y) - 1).abs().item())
    assert apart[0] < 1e-7
    assert apart[1] > 1e-2


@pytest.mark.parametrize("stride", [1, 2])
def test_linear_gram_is_the_gram_of_the_linear_kernel(stride, generator):
    arch = network(kernels.Exponential(), 2, stride, front_end=st.front_ends.MeanRemoval())
    x, y = pair(generator, (8, 8))
    exact, linear = st.GramCKN(arch.replace("layers.*.kernel", kernels.Linear())), st.LinearGram(arch)
    assert torch.allclose(linear.distance(x, y), exact.distance(x, y), rtol=1e-9)
    assert torch.allclose(linear.norm(x), exact.norm(x), rtol=1e-12)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if math.isfinite(k.lipschitz)], ids=repr)
@pytest.mark.parametrize("stride", [1, 2])
def test_nothing_expands(kernel, stride, generator):
    arch = st.Architecture(tuple(st.Layer(3, 2.0 * 2**k, stride, kernel) for k in range(2)), 1.0, ZERO)
    x, y = pair(generator, (8, 8))
    gram, rho = st.GramCKN(arch), kernel.lipschitz**2
    assert gram.norm(x) <= x.norm() * (1 + 1e-12)
    for t in (1e-3, 1.0):
        z = x + t * (y - x)
        assert gram.distance(x, z) <= rho * (z - x).norm() * (1 + 1e-9)
        ckn = st.CKN.fit(arch, torch.cat([x, y]), filters=(6, 8), generator=generator)
        assert ckn.distance(x, z) <= rho * (z - x).norm() * (1 + 1e-9)


def test_a_finite_network_errs_by_at_most_what_is_proved(generator):
    arch = network(kernels.Exponential(2.0), 2, 2)
    x = torch.cat(pair(generator, (8, 8), channels=1))
    ckn = st.CKN.fit(arch, x, filters=(4, 6), generator=generator)
    error = ckn.approximation_error(x).sum()
    off = (ckn.distance(x[:1], x[1:]) - st.GramCKN(arch).distance(x[:1], x[1:])).abs()
    assert 0 < off < error
    assert bool((ckn.captured_energy(x) <= 1 + 1e-12).all())


def test_with_every_patch_as_an_anchor_one_layer_is_exact(generator):
    arch = st.Architecture((st.Layer(3, 1.0, 2, kernels.Exponential(2.0)),), 1.0, ZERO)
    x = torch.cat(pair(generator, (6, 6), channels=1))
    plan = pair_plan.PairPlan(arch, (6, 6), 1, x.device)
    ckn = st.CKN(arch, [functional.normalize(plan.patches(x).flatten(0, 1), dim=1)])
    assert torch.allclose(ckn.distance(x[:1], x[1:]), st.GramCKN(arch).distance(x[:1], x[1:]), rtol=1e-6)


def test_a_cnn_is_a_stack_of_convolutions_with_zero_padding(generator):
    arch = network(RELU, 2, 2)
    net = st.cnn(arch, (4, 5), dtype=torch.float64, generator=generator)
    x = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    maps = torch.nn.functional.conv2d(x, torch.outer(*[_taps(1.0)] * 2)[None, None], padding="same")
    for layer, weight, spacing in zip(arch.layers, net.weights, arch.spacings, strict=False):
        filters = weight.view(len(weight), 3, 3, -1).permute(0, 3, 1, 2) / 3
        maps = torch.relu(functional.conv2d(maps, filters, padding=1))
        taps = torch.outer(*[_taps(layer.pooling_scale / spacing)] * 2).expand(len(weight), 1, -1, -1)
        maps = functional.conv2d(maps, taps, padding="same", groups=len(weight))[..., ::2, ::2]
    assert torch.allclose(net(x), maps, atol=1e-12)


def _taps(sigma):
    half = toeplitz(9, sigma)[0]
    return torch.cat([half[1:].flip(0), half])


@pytest.mark.parametrize("front_end", [st.front_ends.Gradient(), st.front_ends.Whitening()], ids=repr)
@pytest.mark.parametrize("size", [(9,), (8, 10)], ids=str)
def test_front_ends_are_cut_out_of_a_larger_torus_and_do_not_expand(front_end, size, generator):
    x = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
    inside = front_end.apply_to_window(x, len(size))
    assert inside.norm() <= x.norm()
    axes = tuple(range(-len(size), 0))
    framed = functional.pad(x, [width for n in reversed(size) for width in (3, 2 * n - n - 3)])
    around = front_end.apply(framed, len(size)).roll((-3,) * len(size), axes)
    for axis, n in zip(axes, size, strict=True):
        around = around.narrow(axis, 0, n)
    assert torch.allclose(inside, around, atol=1e-13)


def test_differences_at_the_border_are_taken_to_zero():
    slopes = st.front_ends.Gradient().apply_to_window(torch.tensor([[[2.0, 1.0, 4.0]]]), 1)
    assert slopes.tolist() == [[[0.5, 1.0, -0.5]]]


def test_a_grid_twice_as_fine_gives_nearly_the_same_distance():
    x = functional.pad(st.images.load("blobs", count=2, size=(8, 8)), (4, 4, 4, 4)).double()
    x = st.grid.band_limit(x)
    tau = st.CompactField.sample((16, 16), cutoff=1, generator=torch.Generator().manual_seed(0), border=2.0)
    tau = st.control(tau, displacement_norm=1.0)
    for phi in (st.GramCKN(network(RELU, 2, 1)), st.LinearGram(network(RELU, 2, 1))):
        ladder = st.ladder(phi, x, tau, refinement=True, certificates=False)
        assert bool((ladder.refinement < 2e-2 * ladder.observed).all())


# what the theorem covers


def compact(border, jacobian=0.1, size=(16, 16)):
    field = st.CompactField.sample(size, cutoff=2, generator=torch.Generator().manual_seed(3), border=border)
    return st.control(field, jacobian_norm=jacobian)


@pytest.mark.parametrize("front_end", [None, st.front_ends.MeanRemoval()], ids=repr)
def test_fields_that_vanish_as_far_as_patches_reach_are_covered_as_in_the_plane(front_end):
    arch, tau = network(RELU, 2, 1, front_end=front_end), compact(1.0)
    x = st.images.load("fashion", count=1, size=(16, 16))
    ladder = st.ladder(st.GramCKN(arch), x, tau, refinement=True, certificates=False)
    torus = st.ladder(
        st.GramCKN(dataclasses.replace(arch, boundary=st.Periodic())), x, tau, refinement=True, certificates=False
    )
    assert torch.equal(ladder["closed_form"].value, torus["closed_form"].value)
    assert ladder["closed_form"].status == torus["closed_form"].status == Status.NUMERICAL
    assert not ladder.violation.any()
    assert bool((ladder.observed <= ladder.trivial).all())


def periodic():
    return st.control(st.FourierField.sample((16, 16), cutoff=2, generator=torch.Generator()), jacobian_norm=0.1)


@pytest.mark.parametrize(
    "draw",
    [lambda: compact(0.0), lambda: compact(1.9), periodic, lambda: st.Translation((1.0, 0.0), size=(16, 16))],
    ids=["border 0", "border 1.9", "torus", "translation"],
)
def test_other_fields_are_not_covered_and_keep_their_row(draw):
    tau = draw()
    arch = st.Architecture((st.Layer(3, 2.0), st.Layer(5, 4.0)), 1.0, ZERO)  # patches reach 2 px
    x = st.images.load("fashion", count=1, size=(16, 16))
    ladder = st.ladder(st.GramCKN(arch), x, tau, refinement=False, certificates=False)
    assert ladder["closed_form"].status == Status.NOT_COVERED
    assert ladder["closed_form"].value.tolist() == [math.inf]
    assert ladder.observed <= ladder.trivial
    assert not ladder.violation.any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16))
def test_no_rung_is_violated_whatever_the_network(seed):
    draw, d = random.Random(seed), 1 + seed % 2
    size = draw.choice([(24,), (32,)] if d == 1 else [(12, 12), (16, 16)])
    layers = tuple(
        st.Layer(draw.randint(1, 4), draw.choice([1.0, 2.0, 4.0]), draw.choice([1, 2]), draw.choice(LIPSCHITZ))
        for _ in range(draw.randint(1, 2))
    )
    arch = st.Architecture(layers, draw.choice([1.0, None]), ZERO, draw.choice([None, st.front_ends.MeanRemoval()]))
    border = draw.choice([0.0, float(arch.patch_reach)])
    tau = st.CompactField.sample(
        size, cutoff=1, generator=torch.Generator().manual_seed(seed), border=border, rise=min(size) / 2 - border
    )
    tau = st.control(tau, jacobian_norm=draw.choice([1e-3, 0.05, 0.3, 0.9]))
    phi = draw.choice([st.GramCKN, st.LinearGram])(arch)
    ladder = st.ladder(phi, st.images.load("fashion", count=1, size=size), tau, refinement=True, certificates=False)
    assert not ladder.violation.any(), ladder.to_frame().T
    assert math.isfinite(ladder["closed_form"].value.item()) == (border >= arch.patch_reach)


def closed(boundary=ZERO, front_end=None, patch=3, **keywords):
    arch = st.Architecture((st.Layer(patch, 2.0),), 1.0, boundary, front_end)
    return st.closed_form(arch, displacement_norm=4.0, jacobian_norm=0.01, **keywords)


def test_the_closed_form_says_what_is_missing_and_splits_nothing_off():
    assert "need not vanish" in closed().notes[0]
    assert "up to 1 px" in closed(vanishing_border=0.5).notes[0]
    assert closed(vanishing_border=0.5).trivial_norms == closed(st.Periodic()).trivial_norms
    assert "0 to 0" in closed(vanishing_border=1.0, lipschitz=(1.0,), keeps_zero=False).notes[0]
    assert closed(vanishing_border=1.0).value == closed(st.Periodic()).value
    assert closed(vanishing_border=0.0, patch=1).value == closed(st.Periodic(), patch=1).value
    split = {"mean_displacement": 3.9, "residual_displacement": 0.1}
    assert closed(st.Periodic(), **split).value < closed(vanishing_border=1.0, **split).value
    assert closed(vanishing_border=1.0, front_end=st.front_ends.Gradient()).value == math.inf
    with pytest.raises(ValueError, match="vanishing_border"):
        closed(vanishing_border=-1.0)


def test_activations_that_move_zero_are_not_covered(generator):
    arch, x, tau = network(RELU, 2, 1), st.images.load("fashion", count=1, size=(16, 16)), compact(1.0)
    statuses = []
    for activation in (st.activations.ReLU(), st.activations.SmoothedReLU(4.0)):
        net = st.cnn(arch, (4, 4), activation=activation, dtype=torch.float64, generator=generator)
        statuses.append(st.ladder(net, x, tau, refinement=True, certificates=False)["closed_form"].status)
    assert statuses == [Status.NUMERICAL, Status.NOT_COVERED]


SIGMA, SIDE = 2.0, 16.0
KAPPA = math.sqrt(2 / 3) / SIGMA  # of three neighbours


def field(u, border, b):
    """tau on [0, SIDE]: 0 on the border strips, then it climbs with slope b, both ways."""
    return b * (torch.minimum(u, SIDE - u) - border).clamp_min(0.0)


def test_with_a_margin_the_commutator_is_bounded_as_in_the_plane():
    """||[1 P 1 A 1, L]|| on a fine grid in 1-D, by the singular values of matrices."""
    per_pixel, b = 16, 0.1
    count = int(SIDE) * per_pixel
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / per_pixel
    place = ((u - field(u, 1.0, b)) * per_pixel - 0.5).clamp(0, count - 1)
    low = place.floor().long().clamp_max(count - 2)
    warp = torch.zeros(count, count, dtype=torch.float64)
    warp[torch.arange(count), low] = 1 - (place - low)
    warp[torch.arange(count), low + 1] = place - low
    smooth = pooling_matrix(count, SIGMA * per_pixel, 1, ZERO)
    both = []
    for c in (-per_pixel, 0, per_pixel):
        patch = shifted(smooth.T, (c,), ZERO).T  # (1 P 1 A 1) of one neighbour
        both.append((patch @ warp - warp @ patch) / math.sqrt(3))
    norm = float(torch.linalg.matrix_norm(torch.cat(both), ord=2))
    assert 0.3 < norm / joint_commutator(kappa_rms=KAPPA, b=b, d=1) < 1


def patch_commutator(border, b):
    """||[1 P 1, L] y|| / ||z||, y = 1 A z, z = exp(-u^2 / 8) on [0, SIDE], on a grid of 2e-5 px."""
    u = (torch.arange(800_000, dtype=torch.float64) + 0.5) * 2e-5

    def y(v):  # A z in closed form, cut off
        value = torch.exp(-v.square() / 16) * (1 + torch.erf(v / 4)) / math.sqrt(8)
        return torch.where((v > 0) & (v < SIDE), value, 0.0)

    total = 0.0
    for c in (-1.0, 1.0):
        moved, inside = u + c, (u + c > 0) & (u + c < SIDE)
        before = torch.where(inside, y(moved - field(moved, border, b)), 0.0)
        total += float((before - y(u - field(u, border, b) + c)).square().mean()) * SIDE / 3
    return math.sqrt(total / math.sqrt(math.pi))  # int exp(-u^2 / 4) over u > 0 = sqrt(pi)


def test_without_a_margin_the_bound_of_the_plane_fails():
    """The jump of 1 A z at the border moves by b |c|: the commutator falls like b^(1/2), whatever is bounded like b."""
    b = 1e-3
    allowed = joint_commutator(kappa_rms=KAPPA, b=b, d=1) + st.bounds.commutator(b=b, d=1)
    assert patch_commutator(0.0, b) > allowed  # >= ||[1 P 1 A 1, L] z|| + ||[A, L] z||
    assert patch_commutator(0.0, b) / patch_commutator(0.0, b / 4) == pytest.approx(2, rel=0.05)
    assert patch_commutator(1.0, b) < math.exp(-0.5) * KAPPA * b / math.sqrt(1 - b)
    assert patch_commutator(1.0, b) / patch_commutator(1.0, b / 4) == pytest.approx(4, rel=0.01)


def test_where_fields_vanish_is_known(generator):
    size = (16, 16)
    field = st.CompactField.sample(size, cutoff=1, generator=generator, border=3.0)
    assert field.vanishing_border == (2.0 * field).vanishing_border == 3.0
    assert st.CompactField.sample(size, cutoff=1, generator=generator, edge=2.0).vanishing_border is None
    assert st.FourierField.sample(size, cutoff=1, generator=generator).vanishing_border is None
    inner = st.CompactField.sample(size, cutoff=1, generator=generator, border=1.0)
    small = st.control(inner, jacobian_norm=0.2)
    assert st.inverse(small).vanishing_border == st.FlowField(small).vanishing_border == 1.0
    assert st.compose(st.control(field, jacobian_norm=0.1), small).vanishing_border == 1.0
    bump = st.BumpField((1.0, 0.0), (8.0, 7.0), 4.0, size)
    assert bump.vanishing_border == 3.5
    assert st.BumpField((1.0, 0.0), (3.0, 7.0), 4.0, size).vanishing_border is None
    assert (bump + small).vanishing_border == 1.0
    assert (bump + st.Translation((1.0, 0.0), size=size)).vanishing_border is None


def test_lattice_fields_vanish_up_to_the_first_cell_that_is_used(generator):
    size = (12, 16)
    for family, lattice, reach in ((st.PiecewiseLinearField, (12, 16), 1), (st.SplineField, (12, 8), 2)):
        values = torch.zeros(2, *lattice, 2, dtype=torch.float64)
        values[0, 5, 4] = values[1, 6, 3] = 1.0
        field = family(values, size)
        column = min(4, 3) * size[1] / lattice[1]  # of the node nearest to the window's left border
        assert field.vanishing_border == column + 0.5 - reach * size[1] / lattice[1]
        points = size[1] * torch.rand(2000, 2, generator=generator, dtype=torch.float64) - 0.5
        tau = field.displacement(points).abs().amax((0, -1))
        depth = torch.stack([points + 0.5, points.new_tensor([size[1], size[0]]) - 0.5 - points], -1).amin((-1, -2))
        assert float(tau[(depth >= 0) & (depth < field.vanishing_border)].max()) == 0.0
        assert float(tau[(depth >= 0) & (depth > field.vanishing_border)].max()) > 0
        values[0, 0, 4] = 1e-300
        assert family(values, size).vanishing_border is None
    assert st.PiecewiseLinearField(torch.zeros(12, 16, 2), size).vanishing_border == 6.0


def test_the_theorem_covers_what_a_search_with_a_fixed_border_found(generator):
    x = st.images.load("fashion", count=1, size=(12, 12))
    phi = st.GramCKN(st.Architecture((st.Layer(3, 2.0),), 1.0, ZERO))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.3, "generator": generator, "steps": 2}
    starts = (st.search.Saturated(1),)
    for constraints, covered in (((st.search.FixedBorder(2.5),), True), ((), False)):
        found = st.worst_case(phi, x, **given, starts=starts, constraints=constraints)
        rung = next(rung for rung in st.ladder(phi, x, found.field).rungs if rung.name == "closed_form")
        assert bool(torch.isfinite(rung.value).all()) == covered
        assert (float(found.relative) <= float(rung.value)) if covered else (rung.status is Status.NOT_COVERED)


# plain data


def test_architectures_are_written_and_read(generator):
    arch = network(RELU, 2, 1)
    assert st.Architecture.from_dict(arch.to_dict()) == arch
    assert '"boundary":{"kind":"zero"}' in arch.to_json()
    assert st.Architecture.dyadic(depth=1, boundary=ZERO).boundary == ZERO
    assert arch.replace("boundary", {"kind": "periodic"}).boundary == st.Periodic()
    assert arch.patch_reach == 1
    assert st.Architecture((st.Layer(3, 1.0, 2), st.Layer(4, 2.0))).patch_reach == 4
    with pytest.raises(ValueError, match="did you mean 'zero'"):
        st.Architecture.from_dict(arch.to_dict() | {"boundary": {"kind": "zeros"}})
    with pytest.raises(ValueError, match=r"Periodic\(\) or Zero\(\)"):
        dataclasses.replace(arch, boundary=st.Reflect())


def test_a_sweep_has_rows_of_both_boundaries():
    chosen = st.SweepSpec(
        images={"name": "fashion", "count": 1, "size": [16, 16]},
        architecture={"layers": [{"patch_size": 3, "pooling_scale": 2}], "boundary": {"kind": "zero"}},
        vary={"boundary": [{"kind": "periodic"}, {"kind": "zero"}]},
        deformations=[
            {"kind": "compact", "cutoff": 1, "border": 1, "displacement_norm": 0.5},
            {"kind": "fourier", "cutoff": 1, "displacement_norm": 0.5},
        ],
        fields=1,
    )
    assert chosen == st.SweepSpec.from_json(chosen.to_json())
    frame = st.sweep(chosen)
    gram = frame[frame.representation_kind == "gram"].set_index(["boundary", "family"])
    assert set(frame.boundary) == {"periodic", "zero"}
    assert gram.bound_closed_form["zero", "compact"] == gram.bound_closed_form["periodic", "compact"] < math.inf
    assert gram.status_closed_form["zero", "fourier"] == "not covered"
    assert gram.bound_closed_form["zero", "fourier"] == math.inf
    assert (gram.distance_over_input_norm <= gram.trivial).all()
