"""What searches were found to answer badly: levels below round-off, heads that give no numbers, arguments unchecked."""

import pytest
import torch

import stability as st
from stability import search
from stability.plots.robustness import _images

QUICK = {"displacement_norm": 1.0, "jacobian_norm": 0.25, "starts": (search.Saturated(1),), "kept": 1, "steps": 2}
ARCHITECTURE = st.Architecture((st.Layer(3, 2.0),))


@pytest.fixture
def image(generator):
    return torch.rand(1, 1, 8, 9, generator=generator, dtype=torch.float64)


@pytest.fixture
def finite(image, generator):
    return st.CKN.fit(ARCHITECTURE, image, filters=(3,), generator=generator)


def test_a_level_below_round_off_is_refused_and_one_above_it_takes_the_size_that_the_slope_allows(image, generator):
    phi, far = st.GramCKN(ARCHITECTURE), image + 100
    with pytest.raises(ValueError, match=r"the level must be above round-off, .* got 1e-05"):
        st.smallest_deformation(phi, far, search.Level(1e-5), generator=generator, **QUICK)
    found = st.worst_case(phi, far, generator=generator, **QUICK)
    level = 10 * float(found.objective_floor)
    least = st.smallest_deformation(phi, far, search.Level(level), generator=generator, **QUICK)
    slope = st.linearised(phi, far, displacement_norm=1.0, jacobian_norm=0.25, generator=generator)
    assert float(least.size) >= 0.9 * level / float(slope.upper)


@pytest.mark.parametrize(
    ("head", "got"),
    [
        (lambda z: (z.flatten(1),), "tuple"),
        (lambda z: {"logits": z.flatten(1)}, "dict"),
        (lambda z: (z.flatten(1) > 0).long(), "torch.int64"),
    ],
    ids=["tuple", "dict", "integers"],
)
def test_heads_that_give_no_numbers_are_told(head, got, image, finite, generator):
    with pytest.raises(ValueError, match=f"floating-point outputs, got {got}; take its logits"):
        st.worst_case(finite, image, generator=generator, objective=search.Change(head), **QUICK)


@pytest.mark.parametrize("starts", [search.Saturated(2), 3], ids=["one", "number"])
def test_starts_of_curves_are_told(starts, image, finite, generator):
    given = QUICK | {"starts": starts}
    for call in (
        lambda: st.worst_case_curve(finite, image, generator=generator, **given),
        lambda: st.smallest_deformation(finite, image, search.Level(0.01), generator=generator, **given),
    ):
        with pytest.raises(ValueError, match="starts must be one or more like Linearised"):
            call()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"sizes": ()}, "sizes must be positive"), ({"sizes": "abc"}, "sizes must be positive"),
     ({"sizes": (0.5, 2.0)}, "sizes must be at most 1"), ({"starts": 3}, "starts must"),
     ({"rungs": 3}, "rungs must map")],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("searched", [True, False])
def test_arguments_of_radii_are_checked_with_and_without_a_search(change, message, searched, image, finite, generator):
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2)).double()
    with pytest.raises(ValueError, match=message):
        st.robustness_radius(
            finite, head, image, displacement_norm=1.0, jacobian_norm=0.5, generator=generator if searched else None,
            **change,
        )  # fmt: skip


def test_nothing_is_drawn_up_to_a_size_that_was_not_searched():
    import pandas as pd
    from matplotlib.figure import Figure

    table = pd.DataFrame({f"{name}_displacement_px": [0.1, 0.2] for name in ("certified", "as_sampled")})
    for found, ends in ((float("nan"), []), (float("inf"), [5.0, 5.0])):
        axes = Figure().subplots()
        _images(axes, table.assign(found_displacement_px=found), 5.0)
        (lines,) = axes.collections
        drawn = [float(path.vertices[:, 1].max()) for path in lines.get_paths()]
        assert [end for end in drawn if end == 5.0] == ends
