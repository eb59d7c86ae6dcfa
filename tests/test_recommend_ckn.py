"""What ``recommend_ckn`` promises: a proved error, counted bytes that are held, and a reason for every network."""

import itertools
import math

import pytest
import torch

import stability as st
from stability import kernels
from stability.representations.pair_cost import exact_cost, finite_cost


def network(*strides: int, boundary=None, patch: int = 3, kernel: kernels.Kernel | None = None) -> st.Architecture:
    spacings = list(itertools.accumulate(strides, lambda a, b: a * b))
    layers = (
        st.Layer(patch, float(n), s, kernel or kernels.Exponential()) for n, s in zip(spacings, strides, strict=True)
    )
    return st.Architecture(tuple(layers), boundary=boundary or st.Periodic())


def deformed_pair(generator: torch.Generator) -> torch.Tensor:
    x = st.images.load("fashion", count=2, size=(28, 28))
    tau = st.control(st.FourierField.sample((28, 28), cutoff=2, generator=generator), jacobian_norm=0.2)
    return torch.cat([x, st.BandLimitedWarp()(x, tau)])


@pytest.mark.parametrize("boundary", [st.Periodic(), st.Zero()], ids=repr)
@pytest.mark.parametrize(
    ("size", "channels", "arch"),
    [((28, 28), 1, (2, 5)), ((20, 28), 3, (1, 1)), ((24,), 2, (2, 2)), ((12, 12), 1, (1, 2, 3)), ((9, 9), 1, (3,))],
    ids=str,
)
def test_counted_bytes_are_those_of_the_buffers_that_are_held(size, channels, arch, boundary, generator):
    architecture = network(*arch, boundary=boundary)
    gram = st.GramCKN(architecture)
    count = 4 if math.prod(size) > 200 else 40 if len(size) == 2 else 700  # last layers of so many fill a block
    x = torch.rand(count, channels, *size, generator=generator, dtype=torch.float64)
    gram.distance(x[:1], x[None])
    held = gram.program(x).memory.held
    assert held <= exact_cost(architecture, channels, size).memory <= 1.2 * held


def test_distances_of_the_network_are_as_accurate_as_asked_for(generator):
    images, arch = deformed_pair(generator), network(2, 5)
    found = st.recommend_ckn(arch, images, accuracy=0.2, memory=100.0, generator=generator)
    assert isinstance(found.representation, st.CKN)
    assert 0 < found.chosen.error <= 0.2
    exact = st.GramCKN(arch)
    for i, j in itertools.combinations(range(4), 2):
        off = found.representation.distance(images[i : i + 1], images[j : j + 1]) - exact.distance(
            images[i : i + 1], images[j : j + 1]
        )
        assert abs(off.item()) <= found.chosen.error * images[i].norm()
    verdicts = [option.verdict for option in found.considered]
    assert verdicts.count("chosen") == 1
    assert set(verdicts[verdicts.index("chosen") + 1 :]) == {"dearer"}
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(found.considered))


def test_an_error_that_no_cheaper_network_has_is_met_by_the_exact_one(generator):
    images = deformed_pair(generator)
    for accuracy in (0.0, 1e-6):
        found = st.recommend_ckn(
            network(2, 5), images, accuracy=accuracy, memory=100.0, generator=generator, filters=[(4, 8), (2048, 4096)]
        )
        assert isinstance(found.representation, st.GramCKN)
        assert [option.verdict for option in found.considered][1:] == ["chosen", "dearer"]


def test_a_kernel_that_is_not_lipschitz_above_layer_1_is_exact_or_nothing(generator):
    arch, images = network(2, 2, kernel=kernels.ArcCosine(0)), torch.rand(2, 1, 12, 12, generator=generator)
    found = st.recommend_ckn(arch, images, accuracy=10.0, memory=100.0, generator=generator, filters=[(2, 4)])
    assert isinstance(found.representation, st.GramCKN)
    assert found.considered[0].error == float("inf")


def test_limits_out_of_reach_are_told_with_every_network(generator):
    images = deformed_pair(generator)
    with pytest.raises(ValueError, match=r"exact: .* too much memory.*allow more") as refusal:
        st.recommend_ckn(network(2, 5), images, accuracy=1e-6, memory=1.0, generator=generator, filters=[(4, 8)])
    assert "not accurate enough" in str(refusal.value)
    with pytest.raises(ValueError, match="too slow"):
        st.recommend_ckn(network(2, 5), images, accuracy=0.0, memory=100.0, seconds=1e-6, generator=generator)
    with pytest.raises(ValueError, match=r"cannot be fitted.*exact: .* too slow"):  # of 784 patches
        st.recommend_ckn(
            network(2, 5), images, accuracy=0.1, memory=99.0, seconds=5e-3, generator=generator, filters=[(4, 800)]
        )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"accuracy": -1.0}, "accuracy must be"),
        ({"accuracy": float("nan")}, "accuracy must be"),
        ({"memory": 0.0}, "memory must be"),
        ({"seconds": -1.0}, "seconds must be"),
        ({"filters": [(4,)]}, "filters must"),
        ({"filters": [(4, 0)]}, "filters must"),
        ({"filters": (4, 8)}, "filters must be one sequence of integers a network"),
    ],
    ids=str,
)
def test_limits_are_checked_before_any_work(limits, message, generator):
    given = {"accuracy": 0.1, "memory": 100.0} | limits
    with pytest.raises(ValueError, match=message):
        st.recommend_ckn(network(2, 2), torch.rand(1, 1, 8, 8), generator=generator, **given)


def test_costs_grow_as_theory_says():
    """Twice the side: sixteen times the pairs of an exact kernel, four times the positions of a finite network."""
    arch = network(1)
    small, large = (exact_cost(arch, 1, (n, n)).seconds for n in (32, 64))
    assert large / small == pytest.approx(16, rel=1e-9)
    narrow, wide = (finite_cost(arch, 1, (n, n), (64,)).seconds for n in (32, 64))
    assert 4 < wide / narrow < 8  # pooling along an axis grows with the side
