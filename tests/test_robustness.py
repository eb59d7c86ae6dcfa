"""Certified and found robustness radii, with closed forms, brute force and broken bounds beside them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import stability as st
from stability import search
from stability.bounds.rung import Rung, Scope, Status
from stability.ladders.every_field import EveryField
from stability.representations.explicit import ExplicitRepresentation
from stability.robustness.decision import decide
from stability.robustness.sizes import certified_sizes

SIZE = (10, 10)
RAY = {"displacement_norm": 1.0, "jacobian_norm": 0.5}
QUICK = {"starts": (search.Saturated(1),), "kept": 1, "steps": 3, "sizes": (1.0,)}
EVERY = Scope(every_image=True, every_field=True)
EXACT = st.BandLimitedWarp()


class Pixels(ExplicitRepresentation):
    """Phi(x) = x: one linear layer without patch, pooling or stride."""

    dtype = torch.float64
    architecture = st.Architecture((st.Layer(1, 0.0, kernel=st.kernels.Linear()),), antialiasing=None)

    def forward(self, images):
        return images.to(torch.float64)

    def cell_area(self, size, features):
        return 1.0

    def refined(self, factor):
        raise NotImplementedError


def wave(cycles=2, size=SIZE):
    """cos(omega column), one mode."""
    columns = torch.arange(size[1], dtype=torch.float64) * 2 * math.pi * cycles / size[1]
    return torch.cos(columns).expand(1, 1, *size).clone()


def trained(generator, count=6, subsampling=1, size=SIZE):
    """A small CKN and the head "nearest of these images", right on all of them."""
    x = st.images.load("fashion", count=count, size=size)
    arch = st.Architecture((st.Layer(3, 1.0), st.Layer(3, 2.0, subsampling)))
    ckn = st.CKN.fit(arch, x, filters=(8, 8), generator=generator)
    with torch.no_grad():
        rows = ckn(x).flatten(1)
    return ckn, st.AffineHead(rows, -0.5 * rows.square().sum(1)), x


# --- what is certified ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b", [0.1, 0.9])
@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_the_radius_of_one_wave_on_its_own_pixels_is_the_one_computed_by_hand(threshold, b):
    # c_1(s) = -log(1 - s) / s: -log(1 - t b) a omega ||x|| / b = d, hence t = (1 - exp(-d b / (a omega ||x||))) / b
    x, a = wave(), 0.7
    norm, omega = float(x.norm()), 2 * math.pi * 2 / SIZE[1]
    bias = torch.tensor([-(1 - threshold) * 2 * norm**2, 0.0], dtype=torch.float64)
    head = st.AffineHead(torch.stack([x.flatten(), -x.flatten()]), bias)
    found = st.robustness_radius(Pixels(), head, x, displacement_norm=a, jacobian_norm=b)
    distance = threshold * norm  # (w_1 - w_2) . x + b_1 - b_2 over |w_1 - w_2|
    by_hand = (1 - math.exp(-distance * b / (a * omega * norm))) / b
    assert float(found.distance * norm) == pytest.approx(distance, rel=1e-12)
    assert float(found.as_sampled) == pytest.approx(by_hand, rel=1e-4)
    assert float(found.as_sampled) <= by_hand
    assert (found.by, found.status) == (("input",), (Status.NUMERICAL,))


def test_a_translation_at_the_certified_size_of_one_wave_nearly_changes_the_label():
    # for small sizes without gradients nothing is lost: ||x(. - c) - x|| = 2 sin(omega c / 2) ||x||, and the bound is
    # omega c ||x||; the head asks for the very direction in which x moves
    x = wave()
    moved = st.BandLimitedWarp()(x, st.Translation((0.05, 0.0), size=SIZE))
    away = (moved - x).flatten()
    away = away / away.norm()
    rows = torch.stack([torch.zeros_like(away), away])
    level = 0.01 * float(x.norm())
    head = st.AffineHead(rows, torch.stack([torch.zeros_like(away[0]), -away @ x.flatten() - level]))
    found = st.robustness_radius(Pixels(), head, x, displacement_norm=1.0, jacobian_norm=0.01)
    omega = 2 * math.pi * 2 / SIZE[1]
    assert float(found.as_sampled) == pytest.approx(0.01 / omega, rel=1e-2)
    flips = st.BandLimitedWarp()(x, st.Translation((1.02 * float(found.as_sampled), 0.0), size=SIZE))
    assert head(flips).argmax(1).tolist() == [1]


def test_the_distance_of_a_head_is_the_nearest_point_of_another_class(generator):
    head = st.AffineHead(
        torch.randn(4, 3, generator=generator, dtype=torch.float64),
        torch.randn(4, generator=generator, dtype=torch.float64),
    )
    z = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    outputs = head(z)
    distances, own = head.distances(outputs), outputs.argmax(1)
    directions = torch.randn(40000, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    for i in range(5):
        inside = head(z[i] + 0.999 * distances[i] * directions).argmax(1)
        assert bool((inside == own[i]).all())
        outside = head(z[i] + 1.01 * distances[i] * directions).argmax(1)
        assert bool((outside != own[i]).any())


def test_scaling_and_shifting_all_outputs_changes_no_radius_and_a_wider_margin_a_larger_one(generator):
    ckn, head, x = trained(generator)
    first = st.robustness_radius(ckn, head, x, **RAY)
    same = st.robustness_radius(ckn, st.AffineHead(3 * head.weight + 1, 3 * head.bias + 5), x, **RAY)
    assert torch.allclose(first.certified, same.certified, rtol=1e-4)
    favoured = st.robustness_radius(ckn, st.AffineHead(head.weight, head.bias + torch.eye(6)[0]), x[:1], **RAY)
    assert float(favoured.certified) > float(first.certified[0])


@pytest.mark.parametrize("ray", [(1.0, 0.5), (1.0, 0.01)])
def test_the_certified_size_is_where_the_smallest_rung_meets_the_margin(ray, generator):
    ckn, head, x = trained(generator, subsampling=2)
    found = st.robustness_radius(ckn, head, x, displacement_norm=ray[0], jacobian_norm=ray[1])
    rungs = EveryField(ckn, x)
    least = [
        torch.stack([rung.value for rung in rungs(t * found.certified * ray[0], t * found.certified * ray[1])]).amin(0)
        for t in (1.0, 1.0 + 1e-4)
    ]
    assert bool((least[0] < found.distance).all())
    assert bool((least[1] > found.distance).all())
    assert bool((found.as_sampled <= found.certified).all())
    assert set(found.by) == ({"input"} if ray[1] == 0.5 else {"energy"})


def test_fields_with_the_certified_norms_keep_every_label(generator):
    ckn, head, x = trained(generator)
    found = st.robustness_radius(ckn, head, x, **RAY)
    for family in (st.FourierField.sample(SIZE, cutoff=2, batch_shape=(6,), generator=generator),
                   st.MixedField.sample(SIZE, batch_shape=(6,), generator=generator, **RAY)):  # fmt: skip
        norms = family.norms()
        share = torch.minimum(
            found.as_sampled / norms.displacement.upper, 0.5 * found.as_sampled / norms.jacobian.upper
        )
        assert torch.equal(head(ckn(st.BandLimitedWarp()(x, family.scaled(share)))).argmax(1), found.predicted)


def test_a_wrong_label_and_a_margin_of_zero_have_the_radius_zero(searched):
    ckn, head, x, _, _, found = searched
    assert found.right.tolist() == [True, False, True]
    assert (float(found.certified[1]), float(found.as_sampled[1]), float(found.found[1])) == (0.0, 0.0, 0.0)
    assert (found.by[1], found.share_zero, found.accuracy) == ("none", pytest.approx(1 / 3), pytest.approx(2 / 3))
    equal = st.robustness_radius(ckn, st.AffineHead(head.weight[:1].expand(2, -1), torch.zeros(2)), x, **RAY)
    assert equal.share_zero == 1.0


def test_a_head_that_always_says_the_same_is_certified_up_to_fields_that_fold(generator):
    ckn, head, x = trained(generator, count=2)
    found = st.robustness_radius(ckn, st.AffineHead(head.weight[:1].expand(2, -1), torch.tensor([1.0, 0.0])), x, **RAY)
    assert bool((0.5 * found.certified < 1).all())
    assert bool((0.5 * found.certified > 0.999).all())


# --- which bounds may certify -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "status", "message"),
    [
        (Scope(every_image=False, every_field=False), Status.PROOF, "for every field with these norms, got the rung"),
        (EVERY, Status.ESTIMATE, "must be a proof, got the rung 'mine' with the status 'estimate'"),
        (EVERY, Status.PROBABLE, "must be a proof"),
        (EVERY, Status.NOT_COVERED, "must be a proof"),
    ],
)
def test_a_bound_of_one_field_or_without_a_proof_is_refused(scope, status, message, generator):
    ckn, head, x = trained(generator, count=2)
    with pytest.raises(ValueError, match=message):
        st.robustness_radius(ckn, head, x, **RAY, rungs=lambda a, b: [Rung("mine", a, status, scope)])


def test_bounds_that_are_estimates_on_this_grid_are_left_out_with_the_reason(generator):
    x = st.images.load("fashion", count=2, size=SIZE)
    arch = st.Architecture((st.Layer(3, 1.0, 2),))  # pools less than its stride: aliasing is not bounded sharply
    ckn = st.CKN.fit(arch, x, filters=(8,), generator=generator)
    rows = ckn(x).flatten(1).detach()
    found = st.robustness_radius(ckn, st.AffineHead(rows, -0.5 * rows.square().sum(1)), x, **RAY)
    assert set(found.left_out) == {"energy", "closed_form"}
    assert "'estimate'" in found.left_out["energy"]
    assert set(found.by) == {"input"}


def test_the_bisection_keeps_to_the_safe_side_and_below_the_fold():
    one = torch.ones(4, dtype=torch.float64)
    levels = torch.tensor([0.3, 0.0, -1.0, 50.0], dtype=torch.float64)
    found = certified_sizes(lambda a, b: [Rung("square", a**2, Status.PROOF, EVERY)], levels,
                            displacement_norm=one, jacobian_norm=0.5 * one)  # fmt: skip
    assert bool((found.size <= torch.tensor([0.3**0.5, 0.0, 0.0, 2.0])).all())
    assert torch.allclose(found.size, torch.tensor([0.3**0.5, 0.0, 0.0, 2.0]).double(), rtol=1e-4)
    assert found.by == ("square", "none", "none", "square")
    floor = {"floor": torch.full((4,), 0.3, dtype=torch.float64)}
    hidden = certified_sizes(lambda a, b: [Rung("square", a**2, Status.PROOF, EVERY, allowances=floor)], levels,
                             displacement_norm=one, jacobian_norm=0.5 * one)  # fmt: skip
    assert hidden.size.tolist()[:3] == [0.0, 0.0, 0.0]
    nothing = certified_sizes(lambda a, b: [], levels, displacement_norm=one, jacobian_norm=0.5 * one)
    assert nothing.size.tolist() == [0.0] * 4


@pytest.mark.parametrize("front_end", [None, st.front_ends.MeanRemoval(), st.front_ends.Gradient()])
@pytest.mark.parametrize("antialiasing", [None, 1.0])
def test_no_field_moves_the_image_itself_further_than_the_bound_for_every_field(antialiasing, front_end, generator):
    """The trivial bound of a field, computed from the field, against the rung that knows its two norms."""
    arch = st.Architecture((st.Layer(3, 1.0, 2), st.Layer(3, 2.0)), antialiasing, front_end=front_end)
    x = st.images.load("fashion", count=2, size=SIZE)
    ckn = st.CKN.fit(arch, x, filters=(8, 8), generator=generator)
    field = st.FourierField.sample(SIZE, cutoff=2, batch_shape=(2,), generator=generator)
    for b in (0.01, 0.8):
        tau = field.scaled(b / field.norms().jacobian.upper)
        norms = tau.norms()
        rungs = {r.name: r for r in EveryField(ckn, x)(norms.displacement.upper, norms.jacobian.upper)}
        ladder = st.ladder(ckn, x, tau, refinement=False, certificates=False)
        assert bool((ladder.trivial <= rungs["input"].value * (1 + 1e-9)).all())
        assert bool((ladder.observed <= rungs["input"].value * (1 + 1e-9)).all())
        # the ladder's rungs know more of the field (its mean, its Hessian) than the two norms
        for name in ("energy", "closed_form"):
            assert bool((ladder[name].value <= rungs[name].value * (1 + 1e-9)).all())


# --- from both sides --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched():
    """A classifier of three images, the label of the second wrong, with the radii from both sides."""
    generator = torch.Generator().manual_seed(0)
    ckn, head, x = trained(generator, count=3, size=(7, 7))
    labels, ray = torch.tensor([0, 2, 2]), {"displacement_norm": 3.0, "jacobian_norm": 0.9}
    with pytest.MonkeyPatch.context() as coarser:  # looks at fewer places: found sizes are larger, no less true
        for name, count in (("RAY", 8), ("RAY_BISECTIONS", 10), ("BISECTIONS", 1)):
            coarser.setattr(f"stability.search.smallest.{name}", count)
        found = st.robustness_radius(ckn, head, x, labels, **ray, generator=generator, warp=EXACT, **QUICK)
    return ckn, head, x, labels, ray, found


def test_what_is_certified_is_below_what_is_found_and_a_bound_made_too_small_is_not(searched):
    ckn, head, x, labels, ray, found = searched
    assert bool((found.certified <= found.found).all())
    assert not bool(found.contradictory.any())
    assert torch.isfinite(found.found).tolist() == [True, True, True]
    rungs = EveryField(ckn, x)

    def shrunk(a, b):
        return [Rung(r.name, r.value / 40, r.status, r.scope, allowances=r.allowances) for r in rungs(a, b)]

    broken = st.robustness_radius(ckn, head, x, labels, **ray, rungs=shrunk)
    broken = replace(broken, found=found.found)
    assert broken.contradictory.tolist() == [True, False, True]
    assert broken.summary()["contradictory"] > 0


def test_the_field_found_has_its_size_and_changes_the_label(searched):
    ckn, head, x, _, _, found = searched
    norms, sizes = found.smallest.field.norms(), found.found[found.right]
    assert bool((norms.displacement.upper <= 3.0 * sizes * (1 + 1e-9)).all())
    assert bool((norms.jacobian.upper <= 0.9 * sizes * (1 + 1e-9)).all())
    outputs = head(ckn(EXACT(x[found.right], found.smallest.field)))
    own = outputs.gather(1, found.predicted[found.right][:, None])
    others = outputs.scatter(1, found.predicted[found.right][:, None], -torch.inf).amax(1)
    assert bool((own[:, 0] <= others + 1e-9).all())


@pytest.mark.slow
def test_an_image_whose_label_stays_has_no_found_size_and_spoils_no_other(searched, generator):
    ckn, head, x, *_ = searched
    quick = {**QUICK, "sizes": (1.0,), "steps": 1, "generator": generator}
    target = search.Level(torch.tensor([1e-3, 1e6, 2e-3]))
    three = st.smallest_deformation(ckn, x, target, **RAY, **quick, partial=True)
    assert torch.isinf(three.size).tolist() == [False, True, False]
    assert bool((three.reached >= three.level * (1 - 1e-9))[[0, 2]].all())
    sure = st.AffineHead(head.weight, head.bias + torch.tensor([0.0, 1e3, 0.0]))
    safe = st.robustness_radius(ckn, sure, x[1:2], **RAY, **quick)
    assert safe.found.tolist() == [math.inf]
    assert safe.curve()["found"].dropna().eq(1.0).all()


def test_the_curves_are_the_shares_of_the_radii(generator):
    ckn, head, x = trained(generator)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    found = st.robustness_radius(ckn, head, x, labels, **RAY)
    curve = found.curve(torch.tensor([0.0, 1e-9, float(found.certified.sort().values[3]), 10.0], dtype=torch.float64))
    assert curve["certified"].tolist() == pytest.approx([5 / 6, 5 / 6, 2 / 6, 0.0])
    assert curve["found"].isna().all()
    assert found.summary()["median_certified_px"] == pytest.approx(float(found.certified.quantile(0.5)))
    table = found.table()
    assert table["status_found"].unique().tolist() == ["not searched"]
    assert table.loc[5, "status_certified"] == ""
    assert table.loc[0, "status_certified"] == "proof, numerically evaluated"


def test_the_figure_says_what_is_proof_and_draws_what_there_is(searched):
    ckn, head, x, labels, ray, found = searched
    drawn = found.plot()
    assert "Certified (proof)" in drawn.caption
    assert "Found (search)" in drawn.caption
    steps = drawn.figure.axes[1].lines
    assert [len(line.get_ydata()) for line in steps] == [1 + len(found.curve())] * 3
    assert all(line.get_ydata()[0] == pytest.approx(2 / 3) for line in steps)
    one_sided = st.robustness_radius(ckn, head, x, labels, **ray).plot()
    assert "There was no search from above" in one_sided.caption
    assert len(one_sided.figure.axes[1].lines) == 2
    hopeless = replace(found, right=~labels.bool() & False, certified=0 * found.found, as_sampled=0 * found.found)
    hopeless.plot().figure.canvas.draw()


def test_a_predictor_of_the_hilbert_space_is_certified_by_its_norms():
    x = st.images.load("fashion", count=4, size=(8, 8))
    gram = st.GramCKN(st.Architecture.dyadic(depth=1))
    predictor = st.Predictor.fit(gram, x, torch.arange(4) % 2, st.KernelRidge(1e-2))
    found = st.robustness_radius(gram, predictor, x, **RAY)
    assert bool((found.as_sampled > 0).all())
    distance = predictor.certified_distance(predictor(x), gram.norm(x)) / x.flatten(1).norm(dim=1)
    assert torch.allclose(found.distance, distance)
    with pytest.raises(ValueError, match="must be that of the predictor"):
        st.robustness_radius(st.GramCKN(st.Architecture.dyadic(depth=1)), predictor, x, **RAY)


def test_a_linear_layer_a_classifier_and_the_affine_map_decide_alike(generator):
    ckn, head, x = trained(generator, count=2)
    layer = nn.Linear(head.weight.shape[1], 2).double()
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
    for one in (layer, nn.Sequential(nn.Flatten(), layer), st.training.Classifier(ckn, layer)):
        assert torch.equal(decide(ckn, one, x).distance, decide(ckn, head, x).distance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.full((2, 1, *SIZE), math.nan)}, "images must be finite"),
        ({"images": torch.zeros(2, 1, *SIZE)}, "images must not be 0"),
        ({"images": torch.ones(2, 1, 1, *SIZE)}, "images must be"),
        ({"head": nn.Linear(3, 2)}, "the head must take the"),
        ({"head": nn.Linear(3, 1)}, "at least two classes"),
        ({"head": nn.ReLU()}, "head must be affine, got ReLU"),
        ({"labels": torch.tensor([0, 2])}, r"labels must be among the classes of the head, \[0, 1\], got \[0, 2\]"),
        ({"labels": torch.tensor([0, -1])}, "labels must be among"),
        ({"labels": torch.tensor([0, 1, 2])}, "labels must be one int64 number for each of 2 images"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels must be"),
        ({"displacement_norm": torch.tensor([1.0, 2.0])}, "displacement_norm must be one number"),
        ({"jacobian_norm": 1.0}, "jacobian_norm must be below 1"),
        ({"displacement_norm": 0.0}, "displacement_norm must be positive"),
        ({"representation": st.ModuleRepresentation(nn.Identity())}, "must have an architecture for bounds"),
        ({"representation": st.GramCKN(st.Architecture.dyadic(depth=1))}, "must have features for an affine head"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_wrong_input_is_one_clear_error(change, message, generator):
    ckn, head, x = trained(generator, count=2)
    given = {"representation": ckn, "head": head, "images": x, **RAY} | change
    with pytest.raises(ValueError, match=message):
        st.robustness_radius(**given)


def test_heads_that_are_not_finite_or_have_wrong_biases_are_told():
    with pytest.raises(ValueError, match="the head must be finite"):
        st.AffineHead(torch.tensor([[math.nan], [0.0]]))
    with pytest.raises(ValueError, match=r"bias must be \(2,\)"):
        st.AffineHead(torch.ones(2, 3), torch.ones(3))


def test_a_predictor_has_labels_of_its_own(generator):
    x = st.grid.band_limit(st.images.load("fashion", count=4, size=(8, 8)))
    gram, labels = st.GramCKN(st.Architecture.dyadic(depth=1)), torch.tensor([3, 8, 3, 8])
    head = st.Predictor.fit(gram, x, labels, st.KernelRidge(1e-3))
    found = st.robustness_radius(gram, head, x, labels, displacement_norm=3.0, jacobian_norm=0.9)
    assert found.predicted.tolist() == [3, 8, 3, 8]
    assert bool(found.right.all())
    with pytest.raises(ValueError, match=r"labels must be among the classes of the head, \[3, 8\], got \[0, 1\]"):
        st.robustness_radius(gram, head, x, labels // 8, displacement_norm=3.0, jacobian_norm=0.9)


def test_an_image_of_the_highest_frequency_alone_is_refused():
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = (1.0 - 2.0 * ((x + y) % 2)).double().expand(1, 1, 8, 8)
    phi = st.LinearGram(st.Architecture((st.Layer(1, 1.0),)))
    head = st.AffineHead(torch.ones(2, 64, dtype=torch.float64), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="more than their highest frequency, got image 0"):
        st.robustness_radius(phi, head, board, displacement_norm=1.0, jacobian_norm=0.5)
