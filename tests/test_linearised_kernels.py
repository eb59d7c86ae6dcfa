"""The slope at zero of exact kernels: J^T J from gradients beside features, polarisation and small fields."""

import pytest
import torch

import stability as st
from stability.deformations.piecewise_linear import PiecewiseLinearField
from stability.front_ends import MeanRemoval
from stability.kernels import ArcCosine, Exponential, Linear, Polynomial, Sign
from stability.search import metric
from stability.search.compared import compared
from stability.search.metric import FeatureMetric, KernelMetric, PixelMetric, metrics_at_zero
from stability.search.slope import linearised

SIZE, TINY = (8, 8), (6, 6)
CUBIC = st.SplineWarp()


def photographs(count=2, size=SIZE):
    return st.images.load("fashion", count=count, size=size).double()


def architecture(kernel, depth=1):
    return st.Architecture.dyadic(depth=depth, kernel=kernel)


def noise(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def of(representation, x, generator, index=0, count=2):
    (found,) = metrics_at_zero(compared(representation, x), x, index, CUBIC, (count,), generator)
    return found


@pytest.mark.parametrize("dense", [0, 800])
def test_differences_of_gradients_agree_with_the_jacobian_of_features(dense, generator, monkeypatch):
    monkeypatch.setattr(metric, "DENSE", dense)
    x = photographs()
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=2), x, filters=(6, 8), generator=generator)
    features = of(ckn, x, generator, 1)
    assert isinstance(features, FeatureMetric)
    tangent = metric.FieldJacobian(lambda y: y.flatten(1), x[1], CUBIC, 2)
    kernel = KernelMetric(PixelMetric(compared(ckn, x), x, 1), tangent)
    tau = noise(generator, 2, *SIZE, 2)
    expected = features.gram(tau)
    assert float((kernel.gram(tau) - expected).norm() / expected.norm()) < 1e-6
    wrong = KernelMetric(PixelMetric(compared(ckn, x), x, 0), tangent)  # another image's
    assert float((wrong.gram(tau) - expected).norm() / expected.norm()) > 0.01


@pytest.mark.parametrize("kernel", [Exponential(), ArcCosine(1), Polynomial(3)], ids=str)
def test_polarised_distances_of_small_fields_give_the_same_form(kernel, generator):
    x, t = photographs(1, TINY), 1e-3
    gram = st.GramCKN(architecture(kernel, 2))
    u, v = noise(generator, 2, *TINY, 2)

    def squared(tau):
        ends = CUBIC(x.expand(2, -1, -1, -1), PiecewiseLinearField(t * torch.stack([tau, -tau]), TINY))
        return float(gram.reference(x).distance(ends[None]).square().mean()) / t**2

    formed = of(gram, x, generator).gram(torch.stack([u, v]))
    crossed = (squared(u + v) - squared(u - v)) / 4
    size = (squared(u) * squared(v)) ** 0.5
    assert squared(u) == pytest.approx(float((u * formed[0]).sum()), rel=1e-4)
    assert crossed == pytest.approx(float((v * formed[0]).sum()), abs=1e-4 * size)
    assert float((u * formed[1]).sum()) == pytest.approx(float((v * formed[0]).sum()), abs=1e-8 * size)
    assert abs(crossed) > 1e-3 * size  # there is something to find


@pytest.mark.slow
def test_the_linear_kernel_has_the_slope_of_its_features(generator):
    x = photographs(1)
    norms = {"displacement_norm": 1.0, "jacobian_norm": 0.25}
    arch = architecture(Linear())
    features, kernel = (
        linearised(representation, x, **norms, generator=torch.Generator().manual_seed(1))
        for representation in (st.LinearGram(arch), st.GramCKN(arch))
    )
    assert kernel.lower.item() == pytest.approx(features.lower.item(), rel=1e-3)
    assert kernel.upper.item() == pytest.approx(features.upper.item(), rel=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "representation",
    [
        st.GramCKN(architecture(Exponential())), st.GramCKN(architecture(ArcCosine(1), 2)),
        st.BandedCKN(architecture(Exponential())), st.GramNTK(architecture(Exponential())),
    ],
    ids=lambda representation: f"{type(representation).__name__}",
)  # fmt: skip
def test_distances_of_small_multiples_of_the_field_tend_to_the_slope(representation, generator):
    a, b, x = 1.0, 0.25, photographs()[1:]
    slope = linearised(representation, x, displacement_norm=a, jacobian_norm=b, generator=generator)
    assert bool((slope.field.norms().displacement.upper <= a).all())
    assert bool((slope.field.norms().jacobian.upper <= b).all())
    assert 0 < slope.lower.item() <= slope.upper.item() < 1.25 * slope.lower.item()
    t = 1e-3
    small = PiecewiseLinearField(t * slope.field.values, SIZE)
    reached = representation.distance(x, CUBIC(x, small)).item() / t
    assert reached == pytest.approx(slope.lower.item(), rel=1e-3)
    others = PiecewiseLinearField.saturated(
        SIZE, displacement_norm=t * a, jacobian_norm=t * b, batch_shape=(20,), generator=generator
    )
    largest = representation.reference(x).distance(CUBIC(x[:, None], others)).max().item() / t
    assert largest <= slope.lower.item() * (1 + 1e-3)


@pytest.mark.parametrize(
    "representation",
    [
        st.GramCKN(architecture(ArcCosine(0))), st.GramCKN(architecture(Sign())),
        st.GramNTK(architecture(ArcCosine(1))),
    ],
    ids=lambda representation: f"{type(representation).__name__}",
)  # fmt: skip
def test_kernels_without_a_derivative_are_refused(representation, generator):
    with pytest.raises(ValueError, match="must have a derivative"):
        linearised(representation, photographs(1), displacement_norm=1.0, jacobian_norm=0.5, generator=generator)


def test_patches_of_zeros_that_move_are_refused_unless_the_kernel_is_linear(generator):
    x = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    x[..., 4:7, 4:7] = 1 + torch.rand(3, 3, generator=generator, dtype=torch.float64)
    sharp = st.GramCKN(st.Architecture((st.Layer(3, 1.5),), antialiasing=None))
    with pytest.raises(ValueError, match="patches that are 0"):
        of(sharp, x, generator)
    linear = st.GramCKN(st.Architecture((st.Layer(3, 1.5, kernel=Linear()),), antialiasing=None))
    of(linear, x, generator)  # a linear map has a derivative everywhere


def test_a_constant_image_has_slope_zero(generator):
    x = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    gram = st.GramCKN(architecture(Exponential()))
    slope = linearised(gram, x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator)
    assert slope.lower.item() == slope.upper.item() == 0


def test_antialiasing_leaves_no_patch_of_a_signal_at_zero(generator):
    x = torch.zeros(1, 1, 32, dtype=torch.float64)
    x[..., 10:14] = 1.0
    raw = st.Architecture((st.Layer(3, 1.5),), antialiasing=None)
    still = st.Architecture((st.Layer(3, 1.5),), antialiasing=1.0)
    with pytest.raises(ValueError, match="patches that are 0"):
        of(st.GramCKN(raw), x, generator)
    of(st.GramCKN(still), x, generator)


@pytest.mark.parametrize("offset", [0.0, 2e3, 1e4])
def test_an_offset_that_the_front_end_takes_away_changes_no_slope(offset, generator):
    layers = (st.Layer(2, 1.0, kernel=Exponential()),)
    gram = st.GramCKN(st.Architecture(layers, front_end=MeanRemoval()))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25}
    x = st.images.load("fashion", count=1, size=(6, 6))
    own = linearised(gram, x, generator=torch.Generator().manual_seed(0), **given)
    moved = linearised(gram, x + offset, generator=torch.Generator().manual_seed(0), **given)
    assert float(moved.lower) == pytest.approx(float(own.lower), rel=1e-3)
    assert float(moved.upper) == pytest.approx(float(own.upper), rel=2e-2)
    assert float(moved.round_off) < 1e-4 * float(moved.lower)


def test_one_hot_pixel_is_no_reason_to_refuse(generator):
    gram = st.GramCKN(st.Architecture((st.Layer(2, 0.5, kernel=ArcCosine(1)),), antialiasing=0))
    x = st.images.load("fashion", count=1, size=(6, 6)).clone()
    x[0, 0, 0, 0] = 300.0
    slope = linearised(gram, x, displacement_norm=1.0, jacobian_norm=0.25, generator=generator)
    t = 1e-6
    small = PiecewiseLinearField(t * slope.field.values, (6, 6))
    assert float(gram.distance(x, CUBIC(x, small))) / t == pytest.approx(float(slope.lower), rel=1e-3)
