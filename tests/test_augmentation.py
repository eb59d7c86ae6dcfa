"""``DeformationTransform``: norms as asked for, one field for image and mask, requests refused."""

import copy
import functools
import pickle
import subprocess
import sys

import pytest
import torch

import stability as st
from stability.augmentation.reach import draw as draw_fields
from stability.augmentation.strength import Strength

SIZE = (32, 32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def image(*lead, seed=1, dtype=torch.float32):
    return torch.rand(*lead, *SIZE, generator=seeded(seed), dtype=dtype)


# --- strength ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "a", "b"),
    [
        ({"displacement_norm": 2.0}, 2.0, None),
        ({"displacement_norm": st.Pixels(1.5)}, 1.5, None),
        ({"displacement_norm": st.Share(0.05)}, 1.6, None),
        ({"jacobian_norm": 0.4}, None, 0.4),
        ({"displacement_norm": st.Share(0.05), "jacobian_norm": 0.5}, 1.6, 0.5),
    ],
)
def test_fields_have_the_norms_asked_for(asked, a, b):
    drawn = st.DeformationTransform(**asked, generator=seeded()).draw(SIZE, 6)
    n = drawn.norms
    values = drawn.field.on_grid(4)
    for target, lower, upper in (
        (a, n.displacement_norm, n.displacement_norm_upper),
        (b, n.jacobian_norm, n.jacobian_norm_upper),
    ):
        if target is not None:
            assert torch.allclose(lower, torch.full_like(lower, target), rtol=1e-6)
            assert bool((upper >= lower).all() and (upper <= target * 1.001).all())
    assert bool((n.jacobian_norm_upper < 1).all())
    assert bool((values.norm(dim=-1).flatten(1).amax(1) <= n.displacement_norm_upper).all())  # read off a dense grid
    assert bool((values.norm(dim=-1).flatten(1).amax(1) >= 0.98 * n.displacement_norm).all())


def test_each_norm_is_uniform_in_its_range_and_one_number_sets_both():
    deform = st.DeformationTransform((0.5, 1.5), (0.15, 0.45), generator=seeded())
    n = deform.draw(SIZE, 400).norms
    s = n.displacement_norm - 0.5
    assert torch.allclose(n.jacobian_norm, 0.15 + 0.3 * s, rtol=1e-6)
    empirical = (torch.arange(400) + 0.5) / 400
    assert float((s.sort().values - empirical).abs().max()) < 1.63 / 20  # Kolmogorov's distance, level 1 %


def test_equal_seeds_give_the_same_field_at_every_resolution():
    for asked in ({"displacement_norm": st.Share((0.01, 0.05)), "jacobian_norm": (0.1, 0.5)}, {"jacobian_norm": 0.3}):
        small, large = (
            st.DeformationTransform(**asked, p=0.5, generator=seeded(3)).draw((side, side), 5) for side in (32, 64)
        )
        u = 32 * torch.rand(50, 2, generator=seeded(), dtype=torch.float64)
        assert torch.equal(small.applied, large.applied)
        assert torch.allclose(large.field.displacement(2 * u), 2 * small.field.displacement(u), atol=1e-6)
    pixels = [st.DeformationTransform(1.0, generator=seeded(3)).draw((side, side)).field for side in (32, 64)]
    assert torch.allclose(pixels[1].displacement(2 * u), pixels[0].displacement(u), atol=1e-6)  # the same length


def mixture(size, *, batch_shape, generator):
    """Rows at random with the lowest frequencies only, or with the highest only."""
    field = st.FourierField.sample(size, cutoff=8, batch_shape=batch_shape, generator=generator)
    coin = torch.rand(batch_shape, generator=generator, dtype=torch.float64) < 0.5
    return field.tilted(torch.where(coin, torch.inf, -torch.inf))


def test_fields_that_would_fold_are_drawn_again():
    s = torch.ones(24, dtype=torch.float64)
    strength = Strength.of(1.5, None, injective=True)
    free = draw_fields(mixture, strength, SIZE, s, injective=False, generator=seeded()).norms()
    kept = draw_fields(mixture, strength, SIZE, s, injective=True, generator=seeded()).norms()
    assert 4 < int((free.jacobian.lower > 1).sum()) < 20
    assert bool((kept.jacobian.upper < 1).all())
    assert torch.allclose(kept.displacement.lower, torch.full((24,), 1.5, dtype=torch.float64))
    first = free.jacobian.lower < 1
    assert torch.allclose(kept.jacobian.lower[first], free.jacobian.lower[first])  # the others stay as they were drawn


def sometimes_stiff(size, *, batch_shape, generator):
    """Rows at random with the lowest frequencies only, whose ratio no tilt changes."""
    field = st.FourierField.sample(size, cutoff=3, batch_shape=batch_shape, generator=generator)
    coin = torch.rand(batch_shape, generator=generator, dtype=torch.float64) < 0.5
    return field.tilted(torch.where(coin, 0.0, -torch.inf))


def test_fields_out_of_reach_of_a_pair_are_drawn_again():
    s = torch.ones(12, dtype=torch.float64)
    pair = Strength.of(1.0, 0.3, injective=True)
    raw = sometimes_stiff(SIZE, batch_shape=(12,), generator=seeded())
    assert int((st.reachable(raw).upper < 0.3).sum()) > 2
    n = draw_fields(sometimes_stiff, pair, SIZE, s, injective=True, generator=seeded()).norms()
    assert torch.allclose(n.displacement.lower, s)
    assert torch.allclose(n.jacobian.lower, 0.3 * s)


@pytest.mark.parametrize("law", [st.CompactField.sample, st.PiecewiseLinearField.sample])
def test_other_families_draw_too(law):
    deform = st.DeformationTransform(1.0, 0.36, fields=functools.partial(law, cutoff=3), generator=seeded())
    n = deform.draw(SIZE, 3).norms
    assert torch.allclose(n.displacement_norm, torch.ones(3, dtype=torch.float64), rtol=2e-3)
    assert torch.allclose(n.jacobian_norm, torch.full((3,), 0.36, dtype=torch.float64), rtol=2e-3)


# --- what moves -------------------------------------------------------------------------------------------------


def test_image_is_warped_by_the_drawn_field_and_the_mask_by_its_nearest_pixels():
    deform = st.DeformationTransform(3.0, 0.8, generator=seeded())
    x, mask = image(2, 3), torch.arange(32 * 32).reshape(32, 32).expand(2, -1, -1)
    drawn = deform.draw(SIZE, 2)
    y, moved = deform(x, mask, drawn=drawn)
    assert torch.equal(y, st.SplineWarp(boundary=st.Reflect())(x, drawn.field))
    u = st.grid.coordinates(SIZE)
    source = (u - drawn.field.displacement(u) + 0.5).floor().long()  # (2, 32, 32, 2)
    assert int(source.min()) < 0 or int(source.max()) > 31  # the boundary rule matters here
    source = torch.where(source < 0, -1 - source, source)
    source = torch.where(source > 31, 63 - source, source)
    assert torch.equal(moved, 32 * source[..., 1] + source[..., 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shapes_and_types_are_kept(dtype):
    deform = st.DeformationTransform(1.0, generator=seeded())
    for lead in ((3,), (2, 1)):
        assert deform(image(*lead).to(dtype)).shape == (*lead, *SIZE)
        assert deform(image(*lead).to(dtype)).dtype == dtype
    for mask in (torch.ones(SIZE, dtype=torch.bool), torch.ones(2, *SIZE, dtype=torch.uint8)):
        _, moved = deform(image(3).to(dtype), mask)
        assert (moved.shape, moved.dtype) == (mask.shape, mask.dtype)
    assert deform(image(0, 3)).shape == (0, 3, *SIZE)


def test_skipped_samples_stay_bit_for_bit_and_one_field_serves_a_whole_batch():
    deform = st.DeformationTransform(2.0, p=0.5, generator=seeded())
    x = image(12, 1)
    y = deform(x)
    changed = (x != y).flatten(1).any(1)
    assert torch.equal(changed, deform.norms.applied)
    assert 0 < int(changed.sum()) < 12
    same = st.DeformationTransform(2.0, same_on_batch=True, generator=seeded())(x[:1].expand(4, -1, -1, -1))
    assert torch.equal(same, same[:1].expand_as(same))
    assert not torch.equal(same[0], x[0])


def test_clamping_cuts_the_overshoot_of_splines_and_nothing_else():
    x = (image(4, 1) > 0.5).float()
    plain, cut = (st.DeformationTransform(1.3, clamp=clamp, generator=seeded())(x) for clamp in (None, (0.0, 1.0)))
    assert float(plain.max()) > 1.02
    assert torch.equal(cut, plain.clamp(0, 1))


# --- refusals and the rest --------------------------------------------------------------------------------------


def unlike(size, *, batch_shape, generator):
    return st.FourierField.sample((8, 8), cutoff=2, batch_shape=batch_shape, generator=generator)


def shifts(size, *, batch_shape, generator):
    return st.Translation(torch.randn(*batch_shape, 2, generator=generator), size=size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.DeformationTransform(), "displacement_norm or jacobian_norm must be given"),
        (lambda: st.DeformationTransform(-1.0), "finite and positive"),
        (lambda: st.DeformationTransform(0.0), "p=0.0"),
        (lambda: st.DeformationTransform(float("nan")), "finite and positive"),
        (lambda: st.DeformationTransform((2.0, 1.0)), "low <= high"),
        (lambda: st.DeformationTransform("2"), "number or a range"),
        (lambda: st.DeformationTransform((1.0, 2.0, 3.0)), "number or a range"),
        (lambda: st.Share((0.2, 0.1)), "low <= high"),
        (lambda: st.Pixels(-1), "finite and positive"),
        (lambda: st.DeformationTransform(jacobian_norm=1.0), "injective=False"),
        (lambda: st.DeformationTransform(jacobian_norm=(-0.1, 0.5)), "finite and positive"),
        (lambda: st.DeformationTransform(1.0, p=1.5), "probability"),
        (lambda: st.DeformationTransform(1.0, generator=0), "torch.Generator"),
        (lambda: st.DeformationTransform(1.0, fields=3), "fields must draw"),
        (lambda: st.DeformationTransform(1.0, warp=st.TangentPerturbation()), "move pixels"),
        (lambda: st.DeformationTransform(1.0, clamp=(1.0, 0.0)), "clamp"),
        (lambda: st.DeformationTransform(1.0)(torch.zeros(1, 32, 32, dtype=torch.uint8)), "floating point"),
        (lambda: st.DeformationTransform(1.0)(torch.zeros(32, 32)), r"\(C, H, W\)"),
        (lambda: st.DeformationTransform(1.0)(image(3), torch.zeros(16, 16)), "resize it"),
        (lambda: st.DeformationTransform(1.0)(image(2, 3), torch.zeros(32, 32)), "mask must be"),
        (lambda: st.DeformationTransform(1.0)(image(3), 4), "mask must be"),
        (lambda: st.DeformationTransform(1.0).norms, "after a call"),
        (lambda: st.DeformationTransform(1.0).draw((32,)), r"\(H, W\)"),
        (lambda: st.DeformationTransform(4.0).check(SIZE), "not to fold"),
        (lambda: st.DeformationTransform(4.0, 0.2).check(SIZE), r"must lie in \[0.16"),
        (lambda: st.DeformationTransform((0.0, 2.0), (0.1, 0.5)).check(SIZE), "both ends"),
        (lambda: st.DeformationTransform(1.0, fields=unlike).draw(SIZE), "must draw 16 deformations"),
        (lambda: st.DeformationTransform(1.0, 0.2, fields=shifts).draw(SIZE), "one norm alone"),
    ],
)
def test_wrong_requests_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_refused_names_what_is_not():
    with pytest.raises(ValueError, match=r"Share\(([0-9.]+)\)") as refused:
        st.DeformationTransform(st.Share(0.2)).check((48, 64))
    most = float(str(refused.value).split("Share(")[1].split(")")[0])
    st.DeformationTransform(st.Share(0.99 * most)).check((48, 64))
    assert bool((st.DeformationTransform(st.Share(0.2), injective=False).draw(SIZE).norms.jacobian_norm > 1).all())


def test_copies_and_pickles_draw_the_same():
    deform = st.DeformationTransform(1.0, generator=seeded())
    deform(image(1))
    others = copy.deepcopy(deform), pickle.loads(pickle.dumps(deform))
    y = deform(image(1))
    assert all(torch.equal(other(image(1)), y) for other in others)
    assert "FourierField.sample(cutoff=3)" in repr(deform)


def test_the_plain_module_loads_neither_kornia_nor_torchvision():
    code = (
        "import sys, torch, stability as st; st.DeformationTransform(st.Share(0.05))(torch.rand(1, 16, 16)); "
        "print([name for name in ('kornia', 'torchvision') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
