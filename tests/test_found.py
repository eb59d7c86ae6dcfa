"""What a search returns: its meaning, its floor, how far starts agree, its figure."""

import pandas as pd
import torch
from torch import nn

import stability as st
from stability import search
from stability.cli.searching import lines
from stability.search.compared import compared


def test_a_module_whose_output_ignores_the_image_is_invariant(generator):
    class Constant(nn.Module):
        def forward(self, images):
            return torch.ones(len(images), 3, dtype=images.dtype)

    x = st.images.load("blobs", count=2, size=(8, 8))
    found = st.worst_case(Constant(), x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator, steps=2)
    assert found.largest_found.tolist() == [0.0, 0.0]
    assert not found.resolved.any()


def test_round_off_is_not_called_a_lower_bound(generator):
    x = st.images.load("fashion", count=2, size=(12, 12))
    ckn = st.CKN.fit(st.Architecture.dyadic(depth=1), x, filters=(16,), generator=generator).to(torch.float32)
    given = {"jacobian_norm": 0.5, "generator": generator, "starts": (st.search.Saturated(2),), "steps": 2}
    tiny, ordinary = (st.worst_case(ckn, x, displacement_norm=a, **given) for a in (1e-7, 1.0))
    assert ordinary.resolved.all()
    assert set(ordinary.to_frame()["meaning"]) == {"lower bound of the supremum"}
    assert not tiny.resolved.any()
    assert set(tiny.to_frame()["meaning"]) == {"below floor: round-off"}
    assert "below floor" in repr(tiny)
    assert torch.equal(tiny.floor, ckn.reference(x).floor)


class Pixels(nn.Module):
    def forward(self, images):
        return images.flatten(1)


def test_round_off_of_a_head_is_not_called_a_lower_bound(generator):
    x = st.images.load("fashion", count=2, size=(8, 8))
    coarse = nn.Linear(64, 3)  # single precision behind double
    with torch.no_grad():
        coarse.bias += 1e3
    fine = nn.Linear(64, 3).double()
    fine.load_state_dict(coarse.state_dict())
    given = {"jacobian_norm": 1e-6, "generator": generator, "starts": (search.Saturated(2),), "steps": 2}
    for head, resolved in ((coarse, False), (fine, True)):
        found = st.worst_case(Pixels(), x, displacement_norm=1e-6, objective=search.Change(head), **given)
        assert bool((found.distance > found.floor).all())
        assert found.resolved.tolist() == [resolved] * 2
        assert (set(found.to_frame()["meaning"]) == {"lower bound of the supremum"}) == resolved
    margin = search.Margin(coarse, coarse(x.float().flatten(1)).argmax(1))
    assert not st.worst_case(Pixels(), x, displacement_norm=1e-6, objective=margin, **given).resolved.any()


def test_a_function_that_computes_in_single_precision_is_known_by_its_outputs(generator):
    x = st.images.load("fashion", count=1, size=(8, 8))
    weights = torch.randn(64, 3, generator=generator)
    given = {"displacement_norm": 1e-9, "jacobian_norm": 1e-9, "starts": (search.Saturated(2),), "steps": 2}
    coarse, fine = (
        st.worst_case(
            Pixels(), x, objective=search.Change(lambda z, dtype=dtype: z.flatten(1).to(dtype) @ weights.to(dtype)),
            generator=torch.Generator().manual_seed(0), **given,
        )
        for dtype in (torch.float32, torch.float64)
    )  # fmt: skip
    assert coarse.meanings == ["below floor: round-off"]
    assert fine.meanings == ["lower bound of the supremum"]


def test_a_class_that_decides_nothing_hides_no_margin(generator):
    x = st.images.load("fashion", count=1, size=(8, 8))
    weights = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    label = int((x.flatten(1) @ weights).argmax())
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": (search.Saturated(2),), "steps": 2}

    def with_mask(value):
        def head(z):
            return torch.cat([z.flatten(1) @ weights, z.new_full((len(z), 1), value)], 1)

        return st.worst_case(Pixels(), x, objective=search.Margin(head, label),
                             generator=torch.Generator().manual_seed(0), **given)  # fmt: skip

    ordinary = with_mask(-1e3)
    for value in (-1e15, -1e300, -torch.inf):
        found = with_mask(value)
        assert found.resolved.all()
        assert torch.equal(found.largest_found, ordinary.largest_found)


def test_a_prediction_of_a_kernel_is_resolved_where_its_distance_is_not(generator):
    x = st.images.load("fashion", count=4, size=(8, 8))
    gram = st.GramCKN(st.Architecture((st.Layer(3, 1.0),)))
    f = st.Predictor.fit(gram, x, torch.arange(4) % 2, st.KernelRidge(1e-2))
    given = {"generator": generator, "objective": search.Change(f), "starts": (search.Saturated(1),), "steps": 1}
    small, larger = (st.worst_case(gram, x[:1], displacement_norm=a, jacobian_norm=a, **given) for a in (1e-7, 1e-5))
    assert not (small.distance > small.floor).any()
    assert small.resolved.all()
    assert torch.allclose(small.largest_found * 100, larger.largest_found, rtol=0.2)  # starts differ


def test_the_floor_of_an_angle_is_at_least_that_of_the_distance(generator):
    x = st.images.load("fashion", count=3, size=(8, 8))
    gram = st.GramCKN(st.Architecture.dyadic(depth=2))
    known = compared(gram, x)
    assert bool((search.Angle().floor(known, x) >= known.floor / known.norm).all())


def test_angles_of_outputs_on_one_ray_are_round_off(generator):
    class Ray(nn.Module):
        def __init__(self):
            super().__init__()
            self.across = nn.Parameter(torch.randn(1, 5, generator=torch.Generator().manual_seed(0)))

        def forward(self, images):
            return images.flatten(1).float().sum(1, keepdim=True).square() @ self.across

    x = st.images.load("fashion", count=1, size=(8, 8))
    found = st.worst_case(Ray(), x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator,
                          objective=search.Angle(), starts=(search.Saturated(2),), steps=2)  # fmt: skip
    assert found.meanings == ["below floor: round-off"]


def test_the_floor_of_an_objective_is_that_of_the_distance_where_it_is_one(generator):
    x = st.images.load("fashion", count=2, size=(8, 8))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "generator": generator,
             "starts": (search.Saturated(1),), "steps": 1}  # fmt: skip
    distance = st.worst_case(Pixels(), x, **given)
    assert torch.equal(distance.objective_floor, distance.floor)
    pairs = st.worst_case(Pixels(), x, objective=search.DistanceOverPairs(4.0), **given)
    assert torch.allclose(pairs.objective_floor, pairs.floor / 4)


def test_a_margin_that_only_grows_is_nothing_found(generator):
    class Flat(nn.Module):  # the right class loses nothing by any translation but gains by it
        def forward(self, images):
            moved = (images - x).flatten(1).square().sum(1, keepdim=True)
            return torch.cat([1.0 + moved, torch.zeros_like(moved)], 1)

    x = st.images.load("fashion", count=1, size=(8, 8))
    found = st.worst_case(Flat(), x, displacement_norm=1.0, jacobian_norm=0.5, generator=generator,
                          objective=search.Margin(nn.Identity(), 0), fields=search.Translations(8, 1))  # fmt: skip
    assert found.largest_found.tolist() == [0.0]
    assert bool((found.of_starts < 0).all())
    assert found.meanings == ["nothing found: every field that was tried is worse than 0"]


def test_one_start_agrees_with_nothing(generator):
    x = st.images.load("blobs", count=1, size=(8, 8))
    phi = st.LinearGram(st.Architecture((st.Layer(1, 1.0),)))
    given = {"displacement_norm": 1.0, "jacobian_norm": 0.5, "generator": generator, "steps": 1}
    assert st.worst_case(phi, x, starts=(st.search.Saturated(1),), **given).spread.isnan().all()
    assert not st.worst_case(phi, x, starts=(st.search.Saturated(3),), **given).spread.isnan().any()


def test_colours_are_drawn_as_colours(generator):
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[:, 0, :, :4], x[:, 2, :, 4:] = 1.0, 1.0
    phi = st.LinearGram(st.Architecture((st.Layer(1, 1.0),)))
    found = st.worst_case(phi, st.grid.band_limit(x), displacement_norm=1.0, jacobian_norm=0.5, generator=generator,
                          starts=(st.search.Saturated(1),), steps=1)  # fmt: skip
    panels = found.plot().axes
    before, change = panels[0].images[0].get_array(), panels[3].images[0].get_array()
    assert before.shape == (8, 8, 3)
    expected = (found.deformed - found.images)[0].square().sum(0).sqrt()
    assert torch.allclose(torch.as_tensor(change.data), expected)


def test_the_command_says_so_too():
    row = {
        "image": 0, "objective": "distance", "largest_found": 1e-9, "norm_x": 1.0, "asked_displacement_norm": 1.0,
        "asked_jacobian_norm": 0.5, "displacement_norm_upper": 1.0, "jacobian_norm_upper": 0.5, "starts": 1.0,
        "spread": float("nan"), "family_parameters": "{}", "status_largest_found": "lower bound of the supremum",
        "bound_supremum": 1.0, "status_supremum": "proof", "distance_over_input_norm": 1e-9,
    }  # fmt: skip
    (below,) = lines(pd.DataFrame([row | {"resolution": "below floor"}]))[:1]
    (above,) = lines(pd.DataFrame([row | {"resolution": "resolved"}]))[:1]
    assert "(below floor: round-off)" in below
    assert "(lower bound of the supremum)" in above
