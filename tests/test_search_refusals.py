"""What a search refuses, and what it must not take for invariance."""

import math

import pytest
import torch
from torch import nn

import stability as st
from stability import search


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"constraints": [search.DivergenceFree()]}, "DivergenceFree needs fields with a continuous gradient"),
        ({"warp": st.BilinearWarp()}, "warp must have a derivative"),
        ({"warp": "spline"}, "warp must"),
        ({"starts": ["saturated"]}, "starts must be one or more"),
        ({"starts": search.Saturated(1)}, "starts must be one or more"),
        ({"displacement_norm": "1"}, "displacement_norm must be a number"),
        ({"jacobian_norm": None}, "jacobian_norm must be a number"),
        ({"constraints": "free"}, "constraints must be like TranslationFree"),
        ({"constraints": [search.TranslationFree(), 3]}, "constraints must be like TranslationFree"),
        ({"objective": search.Margin(nn.Identity(), torch.zeros(5, dtype=torch.int64))}, "label must be an integer"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(change, message, generator):
    x = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "generator": generator, "steps": 1} | change
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    with pytest.raises(ValueError, match=message):
        st.worst_case(module, x, **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search.Saturated(0), "count must"),
        (lambda: search.Linearised(2, 0), "steps must"),
        (lambda: search.Given("a"), "a given start must"),
        (lambda: search.DistanceOverPairs(None), "unit_distance must"),
        (lambda: search.FixedBorder(None), "width must"),
        (lambda: search.Margin(nn.Identity(), 1.5), "label must be an integer"),
        (lambda: search.Margin(nn.Identity(), None), "label must be an integer"),
        (lambda: search.Margin("head", 1), "head must map features"),
        (lambda: search.Change(None), "head must map features"),
        (lambda: search.AtFixedNorm("distance"), "objective must be one like"),
        (lambda: search.Level(1.0, "angle"), "objective must be one like"),
    ],
)
def test_parts_of_a_search_are_checked_when_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class _WithConstant(nn.Module):
    """Features and one that is always the same number."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        rows = x.flatten(1)
        return torch.cat([rows, torch.full_like(rows[:, :1], self.value)], 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_no_numbers_are_no_invariance(value, generator):
    x = torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    given = {"displacement_norm": 0.5, "jacobian_norm": 0.25, "generator": generator}
    for run in (
        lambda phi: st.worst_case(phi, x, **given, steps=1),
        lambda phi: st.worst_case(phi, x, **given, fields=search.Translations()),
        lambda phi: st.linearised(phi, x, **given),
    ):
        with pytest.raises(ValueError, match="representation must be finite, got NaN or infinite values for image 0"):
            run(_WithConstant(value))
    assert float(st.worst_case(_WithConstant(1.0), x, **given, steps=1).largest_found) > 0


def test_heads_of_single_precision_and_modules_without_parameters(generator):
    x = st.grid.band_limit(torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64))
    given = {"displacement_norm": 0.5, "jacobian_norm": 0.25, "generator": generator}
    change = search.Change(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    assert float(st.worst_case(nn.Identity(), x, **given, objective=change, steps=1).largest_found) > 0
    shifts = st.worst_case(_Spectrum(), x, **given, fields=search.Translations(), warp=st.BandLimitedWarp())
    assert float(shifts.largest_found) < 1e-12  # in float64, since nothing says otherwise


class _Spectrum(nn.Module):
    """|Fourier coefficients| below Nyquist, which translations leave."""

    def forward(self, x):
        return torch.fft.fft2(x)[..., 1:4, 1:4].abs()


def test_exact_kernels_are_differentiated_one_field_at_a_time(generator, monkeypatch):
    seen = []
    plain = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda value, part, **k: seen.append(len(part)) or plain(value, part, **k)
    )
    x = torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64)
    phi = st.GramCKN(st.Architecture.dyadic(depth=1, subsampling=1))
    given = {"displacement_norm": 0.5, "jacobian_norm": 0.25, "generator": generator}
    st.worst_case(phi, x, **given, starts=(search.Linearised(3),), steps=1)
    assert set(seen) == {1}


def small_network(generator):
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Flatten()).double()


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_no_more_starts_go_on_than_are_kept_however_few_the_steps(steps, generator):
    x = st.images.load("fashion", count=2, size=(8, 8))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "generator": generator, "starts": (search.Saturated(8),)}
    found = st.worst_case(small_network(generator), x, kept=2, steps=steps, **given)
    assert found.of_starts.shape == (2, 2)
    assert bool((found.trace.diff(dim=0) >= 0).all())
    ascents = (4 if steps == 5 else 2) + 1  # of each image; one more where a translation is better in the end
    assert found.gradient_evaluations <= 2 * ascents * (steps + 1)


@pytest.mark.parametrize("fields", [search.PiecewiseLinear(), search.Translations()], ids=repr)
def test_nothing_found_is_worse_than_no_deformation(fields, generator):
    """An objective that falls in every direction from x: its supremum over the set is 0, at the zero field."""
    x = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    network = small_network(generator)

    class Top(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("middle", network(x[:1]).detach())

        def forward(self, z):
            gap = (z - self.middle).square().sum(1)
            return torch.stack([gap, torch.zeros_like(gap)], 1)

    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "generator": generator, "fields": fields}
    found = st.worst_case(
        network, x, objective=search.Margin(Top(), 0), starts=(search.Saturated(2),), kept=2, steps=3, **given
    )
    assert found.largest_found[0] == 0
    assert found.displacement_norm[0] == 0
    assert found.distance[0] < 1e-12
    assert found.largest_found[1] > 0  # another image's margin can be lost
    assert found.displacement_norm[1] > 0


def test_sequences_may_come_as_tensors_generators_or_alone(generator):
    x = torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "steps": 1, "kept": 1}
    found = [
        st.worst_case(
            small_network(torch.manual_seed(0)), x, generator=torch.Generator().manual_seed(1), starts=starts,
            constraints=constraints, **given,
        ).largest_found.item()
        for starts, constraints in (
            ((search.Saturated(1),), (search.TranslationFree(),)),
            ([search.Saturated(1)], search.TranslationFree()),
            ((one for one in [search.Saturated(1)]), (one for one in [search.TranslationFree()])),
        )
    ]  # fmt: skip
    assert found[0] == found[1] == found[2] > 0
    curve = st.worst_case_curve(
        small_network(generator), x, generator=generator, sizes=torch.tensor([0.5, 1.0]), starts=(search.Saturated(1),),
        **given,
    )  # fmt: skip
    assert curve.sizes.tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="index must be from 0 to 0"):
        curve.found[0].plot("a")


def test_a_head_that_does_not_fit_is_told_in_one_line(generator):
    x = st.images.load("blobs", count=1, size=(8, 8))
    objective = search.Change(nn.Linear(5, 2).double())
    with pytest.raises(ValueError, match=r"head must take torch.float64 features of shape \(1, 192\)"):
        st.worst_case(small_network(generator), x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator,
                      objective=objective)  # fmt: skip


def test_values_that_become_infinite_are_refused_even_in_the_last_step(generator):
    class Steep(search.Distance):
        def score(self, compared, images):
            plain = super().score(compared, images)
            return lambda deformed, owner: torch.where(plain(deformed, owner) > 0.1, torch.inf, plain(deformed, owner))

    x = st.images.load("fashion", count=1, size=(12, 12))
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(8,), generator=generator)
    given = {"displacement_norm": 2.0, "jacobian_norm": 0.5, "starts": (search.Saturated(2),), "steps": 1}
    with pytest.raises(ValueError, match="objective must be finite, got NaN or infinite values for image 0"):
        st.worst_case(ckn, x, objective=Steep(), generator=generator, **given)


def test_inference_mode_is_named_where_it_is_in_the_way(generator):
    x = torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"gradients can be taken, got torch\.inference_mode"):
        st.worst_case(nn.Flatten(), x, displacement_norm=1.0, jacobian_norm=0.25, generator=generator)
