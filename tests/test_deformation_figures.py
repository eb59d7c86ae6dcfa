"""Pictures of a field: what they show is the field, what they call proof is proof. The card of a notebook."""

import functools
import html.parser
import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.quiver import Quiver

import stability as st
from stability.deformations.norms import Interval, Norms
from stability.deformations.series import FourierSeries
from stability.plots.deformation import GREY, draw, outward
from stability.plots.sampled import extent, grid_lines, sample, spacing

WIDE = (24, 40)


def fourier(size=WIDE, seed=0, b=0.5, batch_shape=(), cutoff=2):
    generator = torch.Generator().manual_seed(seed)
    field = st.FourierField.sample(size, cutoff=cutoff, batch_shape=batch_shape, generator=generator)
    return st.control(field, jacobian_norm=b)


def compact():
    generator = torch.Generator().manual_seed(1)
    return st.CompactField.sample((32, 32), cutoff=2, generator=generator, border=2.0, edge=1.5)


def folded():
    return fourier((32, 48), seed=4, b=1.8)


@functools.cache
def drawn(make):
    """A field and its figure, drawn once for all tests that look at it."""
    field = make()
    return field, draw(field)


class Seen(FourierSeries):
    """A field of which nothing is certified."""

    def suprema(self):
        known = super().suprema()
        nothing = [Interval(lambda i=i: i.lower, lambda i=i: i.lower + torch.inf) for i in vars(known).values() if i]
        return Norms(*nothing)


class Constructed(FourierSeries):
    """A field that is known to be one to one."""

    @property
    def injective(self):
        return torch.ones(self.batch_shape, dtype=torch.bool)


def series(kind, b):
    field = fourier(seed=3, b=b)
    return kind(field.modes, field.cosine, field.sine, size=field.size)


def seen():
    return series(Seen, 0.5)


def panels(figure):
    """The four panels of a plane field."""
    return dict(zip(("grid", "arrows", "steep", "volume"), figure.axes, strict=False))


def words(figure):
    """Title and caption, in one line each."""
    return figure.get_suptitle(), " ".join(text.get_text() for text in figure.texts if text is not figure._suptitle)


def off_the_grid(lines, field, step, sign):
    """Distance of v + sign * tau(v) from the grid's columns or rows, for the vertices v of both kinds of lines."""
    distances = []
    for axis, found in enumerate(lines):
        at = torch.as_tensor(np.concatenate(found))
        content = (at + sign * field.displacement(at))[:, axis] / step
        distances.append((content - content.round()).abs().max() * step)
    return float(max(distances))


# --- the deformed grid ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fourier, compact, folded])
def test_the_deformed_grid_is_where_straight_lines_are_carried(make):
    field = make()
    step = spacing(field.size)
    lines = grid_lines(sample(field), step)
    # between nodes the picture is linear: h^2 / 8 sup |second derivative|
    error = (max(field.size) / 192) ** 2 / 8 * float(field.norms().hessian.upper) * 2
    assert off_the_grid(lines, field, step, -1) <= error
    assert off_the_grid(lines, field, step, 1) > 5 * error  # the other sign is another grid


def test_a_translation_carries_straight_lines_along():
    columns, rows = grid_lines(sample(st.Translation((3.0, -0.25), WIDE)), 4.0)
    assert sorted({round(float(line[0, 0]), 9) for line in columns}) == [3.0 + 4 * k for k in range(10)]
    assert sorted({round(float(line[0, 1]), 9) for line in rows}) == [-0.25 + 4 * k for k in range(6)]
    assert all(np.ptp(line[:, 0]) < 1e-9 for line in columns)


def test_the_figure_shows_this_grid():
    field, figure = drawn(fourier)
    collections = [c for c in panels(figure)["grid"].collections if isinstance(c, LineCollection)]
    expected = grid_lines(sample(field), spacing(field.size))
    for collection, lines in zip(collections, expected, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(collection.get_segments(), lines, strict=True))


# --- panels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fourier, compact, folded])
def test_colours_are_the_values_at_their_places(make):
    field, figure = drawn(make)
    shown = panels(figure)
    (left, right), (top, bottom) = extent(field)
    pictures = [shown[name].images[0].get_array() for name in ("arrows", "steep", "volume")]
    rows, columns = pictures[0].shape
    for i, j in [(0, 0), (3, columns - 1), (rows - 1, 5), (rows // 2, columns // 3)]:
        u = left + (right - left) * j / (columns - 1), top + (bottom - top) * i / (rows - 1)
        u = torch.tensor(u, dtype=torch.float64)
        jacobian = field.jacobian(u)
        expected = (
            field.displacement(u).norm(),
            torch.linalg.matrix_norm(jacobian, 2),
            torch.linalg.det(torch.eye(2) - jacobian),
        )
        for picture, value in zip(pictures, expected, strict=True):
            assert picture[i, j] == pytest.approx(float(value), abs=1e-12)


@pytest.mark.parametrize(("make", "edge"), [(fourier, 0.5), (compact, 1.5)])
def test_axes_are_those_of_an_image_and_end_at_the_borders(make, edge):
    field, figure = drawn(make)
    height, width = field.size
    for axes in panels(figure).values():
        assert axes.get_xlim() == (-edge, width - edge)
        assert axes.get_ylim() == (height - edge, -edge)  # y points down
        assert axes.get_aspect() == 1.0
        dashed = {spine.get_linestyle() != "-" for spine in axes.spines.values()}
        assert dashed == {make is fourier}  # a torus has no border of its own


def test_the_determinant_is_coloured_around_one_and_folds_are_outlined():
    for make, folds in [(fourier, False), (folded, True)]:
        field, figure = drawn(make)
        shown = panels(figure)
        assert float(shown["volume"].images[0].norm(1.0)) == 0.5
        outlines = [c for c in shown["volume"].collections if isinstance(c, ContourSet)]
        assert bool(outlines) == folds
        for outline in outlines:
            at = torch.as_tensor(np.concatenate(outline.allsegs[0]))
            determinant = torch.linalg.det(torch.eye(2) - field.jacobian(at))
            assert float(determinant.abs().max()) < 0.01


@pytest.mark.parametrize("make", [fourier, compact])
def test_arrows_end_at_their_points_and_point_along_tau(make):
    field, figure = drawn(make)
    (quiver,) = (c for c in panels(figure)["arrows"].collections if isinstance(c, Quiver))
    tau = field.displacement(torch.as_tensor(quiver.XY)).numpy()
    assert np.allclose(np.stack([quiver.U, quiver.V], -1), tau, atol=1e-12)
    assert quiver.pivot == "tip"
    told = re.search(r"drawn ([\d.]+) times as long", words(figure)[1])
    assert 1 / quiver.scale == pytest.approx(float(told[1]) if told else 1.0)


def test_no_arrows_and_no_colours_are_invented_for_a_zero_field():
    shown = panels(draw(st.Translation((0.0, 0.0), WIDE)))
    assert not [c for c in shown["arrows"].collections if isinstance(c, Quiver)]
    assert np.all(shown["volume"].images[0].get_array() == 1.0)


def test_a_signal_shows_both_curves_between_their_certified_norms():
    for b in (0.8, 1.5):
        field = fourier((64,), seed=4, b=b, cutoff=3)
        tau, slope = draw(field).axes
        u, values = tau.lines[0].get_data()
        at = torch.as_tensor(u)[:, None]
        assert np.allclose(values, field.displacement(at)[:, 0])
        assert np.allclose(slope.lines[0].get_ydata(), 1 - field.jacobian(at)[:, 0, 0])
        norms = field.norms()
        for axes, centre, norm in ((tau, 0, norms.displacement), (slope, 1, norms.jacobian)):
            dashed = sorted(line.get_ydata()[0] for line in axes.lines if line.is_dashed())
            assert dashed == pytest.approx([centre - float(norm.upper), centre + float(norm.upper)])
        below = [to_hex(c.get_facecolor()[0]) for c in slope.collections]
        assert below == ([GREY] if b > 1 else [])


# --- words ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(lower=some.floats(1e-6, 1e6), gap=some.floats(0, 1e-2))
def test_ends_are_rounded_outward(lower, gap):
    upper = lower * (1 + gap)
    low, high = map(float, outward(lower, upper))
    assert lower * (1 - 1.1e-4) <= low <= lower * (1 + 1.1e-11)
    assert upper * (1 - 1.1e-11) <= high <= upper * (1 + 1.1e-4)


def test_the_title_says_both_ends_of_both_norms_and_which_field():
    fields = fourier(b=torch.tensor([[0.5, 0.6, 0.7], [0.8, 0.9, 1.1]]), batch_shape=(2, 3))
    figure = draw(fields)
    title = words(figure)[0]
    assert "24 × 40 px, field [0, 0] of a batch (2, 3)" in title
    norms = fields[0, 0].norms()
    for norm in (norms.displacement, norms.jacobian):
        seen, certified = outward(float(norm.lower), float(norm.upper))
        assert rf"${seen} \leq" in title
        assert rf"\leq {certified}" in title
    assert "batch" not in words(drawn(fourier)[1])[0]
    assert r"= 5\ \mathrm{px}$" in words(draw(st.Translation((3.0, 4.0))))[0]  # both ends agree


def test_only_the_first_field_of_a_batch_is_looked_at():
    fields = fourier(batch_shape=(3,)) * 1.0
    figure = draw(fields)  # the factor makes norms that nobody has read
    unread = fields.norms()
    assert not {"lower", "upper"} & (vars(unread.displacement).keys() | vars(unread.jacobian).keys())
    for one, other in zip(figure.axes, draw(fields[0]).axes, strict=True):
        for image, same in zip(one.images, other.images, strict=True):
            assert np.array_equal(image.get_array(), same.get_array())


@pytest.mark.parametrize(
    ("make", "word", "others"),
    [
        (fourier, "<1$, so", ("folds", "no proof", "construction")),
        (folded, "folds", ("one to one", "no proof")),
        (lambda: series(Constructed, 1.05), "by construction", ("folds", "no proof", "<1$")),
        (lambda: series(FourierSeries, 1.05), "no proof", ("folds", "one to one")),
        (seen, "no proof", ("folds", "one to one")),
    ],
)
def test_the_caption_tells_proof_from_what_is_seen(make, word, others):
    caption = words(drawn(make)[1])[1]
    assert word in caption
    assert not [other for other in others if other in caption]


def test_a_norm_without_certificate_is_told():
    title, caption = words(drawn(seen)[1])
    assert title.count("not certified") == 2
    assert "inf" not in title.replace("infty", "")
    assert "No norm is certified" in caption
    assert "Proof" not in caption


@pytest.mark.parametrize("size", [(24, 40), (60, 20), (16, 120), (64,)])
def test_nothing_is_cut_off_and_no_words_overlap(size):
    figure = draw(fourier(size, b=0.5))
    renderer = figure.canvas.get_renderer()
    page = figure.bbox
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    for box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1
    assert not [1 for one, other in itertools.combinations(boxes, 2) if one.overlaps(other)]


def test_drawing_changes_no_settings_and_needs_no_style_later():
    before = dict(mpl.rcParams)
    figure = draw(fourier(b=0.5).to(dtype=torch.float32))
    assert dict(mpl.rcParams) == before
    labels = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    assert {label.get_fontname() for label in labels} == {"STIXGeneral"}
    assert figure._repr_png_().startswith(b"\x89PNG")  # a notebook shows it


def test_fields_with_gradients_are_drawn_and_keep_them():
    field = fourier()
    cosine = field.cosine.clone().requires_grad_()
    draw(st.FourierField(field.modes, cosine, field.sine, size=field.size))
    assert cosine.grad is None


def test_an_empty_batch_is_told():
    with pytest.raises(ValueError, match="at least one field"):
        draw(st.Translation(torch.zeros(0, 2)))


# --- the card -------------------------------------------------------------------------------------------------------


class Card(html.parser.HTMLParser):
    """Tags, whether they are balanced, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], {}, ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "|"


def card(field):
    return Card(field._repr_html_())


@pytest.mark.parametrize("make", [fourier, compact, lambda: fourier((64,)), lambda: fourier((32, 32)) + compact()])
def test_a_card_is_one_sound_element_without_scripts_or_links(make):
    field = make()
    text = field._repr_html_()
    found = Card(text)
    assert found.tags[0] == "div"
    assert set(found.tags) <= {"div", "b", "table", "tr", "th", "td", "svg", "rect", "path"}
    assert not re.search(r"https?:|url\(|javascript|\bon\w+=", text)
    assert len(text) < 40_000
    assert type(field).__name__ in found.text


def test_a_card_shows_both_ends_and_the_range_of_a_batch():
    fields = fourier(b=torch.tensor([0.25, 0.75]), batch_shape=(2,))
    found = card(fields).text
    assert "0.24999 … 0.74999" in found
    norm = fields.norms().jacobian.upper
    assert f"{outward(0, float(norm.min()))[1]} … {outward(0, float(norm.max()))[1]}" in found
    assert "certified|none" not in found
    assert "none" in card(seen()).text


def test_a_card_computes_no_norms_of_large_batches_and_shows_those_that_are_known():
    fields = fourier(batch_shape=(17,)) * 1.0
    text = card(fields).text
    norms = fields.norms()
    assert not {"lower", "upper"} & (vars(norms.displacement).keys() | vars(norms.jacobian).keys())
    assert "sup" not in text
    assert "norms()" in text
    assert "sup |div τ|" not in card(fields[:16]).text
    _ = norms.divergence.lower, norms.divergence.upper
    assert "sup |div τ|" in card(fields).text


def test_the_picture_of_a_card_is_the_deformed_grid():
    field = fourier((32, 32))
    found = card(field)
    lines = {color: [] for color in ("#56B4E9", "#E69F00")}
    paths = [[tuple(map(float, pair.split())) for pair in d[1:].split("L")] for d in found.attributes["d"]]
    for color, path in zip([s for s in found.attributes["stroke"] if s in lines], paths, strict=True):
        lines[color].append(np.array(path))
    error = (32 / 48) ** 2 / 8 * float(field.norms().hessian.upper) * 2 + 0.01  # and four digits
    assert off_the_grid(list(lines.values()), field, spacing(field.size), -1) <= error


def test_a_card_escapes_what_it_shows():
    kind = type("A<script>&", (FourierSeries,), {})
    text = series(kind, 0.5)._repr_html_()
    assert "A&lt;script&gt;&amp;" in text
    assert "<script>" not in text


def test_an_empty_batch_has_a_card():
    assert "batch (0,)" in card(st.Translation(torch.zeros(0, 2))).text
