"""Each experiment moves one knob, runs in its fast configuration, and draws what the README cites."""

from pathlib import Path

import anchors
import common
import depth
import distance_versus_deformation
import invariance
import ntk
import numpy as np
import pandas as pd
import patch_size
import pooling_scale
import pytest
import warps
import yaml

import stability as st
from stability.sweeps.files import read_spec
from stability.sweeps.knobs import KNOBS, knobs, moved
from stability.sweeps.result import read_rows

ROOT = Path(__file__).parents[1]

MODULES = (distance_versus_deformation, pooling_scale, patch_size, anchors)
FAST_MODELS = {
    "distance_versus_deformation": [("representations.2.filters", "[4, 8]"), ("representations.3.widths", "[4, 8]"),
                                    ("representations.4.widths", "[4, 8]"), ("representations.4.training.epochs", "1")],
    "anchors": [("representations", "[{kind: gram}, {kind: ckn, filters: [2, 4]}, {kind: ckn, filters: [32, 64]}]")],
}  # fmt: skip
FAST_MODELS["pooling_scale"] = FAST_MODELS["patch_size"] = FAST_MODELS["distance_versus_deformation"]
INPUTS = "front_end: [null, {kind: mean_removal}]"
FAST_KNOBS = {
    "distance_versus_deformation": [("deformations.0.displacement_norm", "[0.25, 4]"), ("deformations.0.angles", "2"),
                                    ("deformations.1.displacement_norm", "[1, 4]")],
    "pooling_scale": [("vary", f"{{layers.-1.pooling_scale: [1, 8], {INPUTS}}}")],
    "patch_size": [("vary", f"{{layers.*.patch_size: [1, 7], {INPUTS}}}")],
    "anchors": [],
}  # fmt: skip
"""The ends of every knob."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Path]:
    """The experiments' fast configurations, run once."""
    found = {}
    for module in MODULES:
        name = module.EXPERIMENT.name
        found[name] = tmp_path_factory.mktemp(name) / "store"
        module.run(found[name], settings=[*common.FAST, *FAST_MODELS[name], *FAST_KNOBS[name]], jobs=1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.EXPERIMENT.name)
def test_a_fast_run_draws_its_figure_and_table(module, stores, tmp_path):
    name = module.EXPERIMENT.name
    written = module.draw(stores[name], tmp_path / name)
    assert {path.name for path in written} == {f"{name}.png", f"{name}.pdf", "caption.txt", "table.csv", "run.json"}
    assert all(path.stat().st_size > 0 for path in written)
    assert len(pd.read_csv(tmp_path / name / "table.csv")) > 1


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.EXPERIMENT.name)
def test_the_rows_of_an_experiment_violate_no_bound_and_hold_every_representation(module, stores):
    rows = read_rows(stores[module.EXPERIMENT.name])
    allowance = rows.interpolation_error + rows.floor
    assert (rows.distance_over_input_norm <= rows.bound_closed_form + allowance).all()
    assert (rows.distance_over_input_norm <= rows.trivial + rows.floor).all()
    if module is not anchors:
        assert set(rows.representation) == {"gram", "linear", "ckn", "CNN, random", "CNN, trained"}


def test_more_anchors_are_nearer_to_the_exact_distance(stores):
    table = anchors.error(read_rows(stores["anchors"]))
    for _, part in table.groupby("front_end"):
        assert part["filters"].tolist() == ["2-4", "32-64"]
        assert part["median"].iloc[1] < 0.5 * part["median"].iloc[0]
        assert part["captured_energy"].is_monotonic_increasing


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.EXPERIMENT.name)
def test_a_figure_comes_from_a_file_of_at_most_25_lines(module):
    file = ROOT / "experiments" / f"{module.EXPERIMENT.name}.yaml"
    assert len(file.read_text().splitlines()) <= 25
    assert read_spec(str(file)) == st.SweepSpec(**yaml.safe_load(file.read_text()))
    source = Path(module.__file__).read_text().splitlines()
    assert len(source) <= 120


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.EXPERIMENT.name)
def test_reports_hold_what_the_committed_spec_asks_for(module):
    import json

    name = module.EXPERIMENT.name
    record = json.loads((ROOT / "reports" / name / "run.json").read_text())
    assert record["hash"] == read_spec(str(ROOT / "experiments" / f"{name}.yaml")).hash
    assert (ROOT / "reports" / name / f"{name}.png").is_file()


# --- one figure for every warp ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> pd.DataFrame:
    """The experiment ``warps`` in its fast configuration."""
    fast = [*common.FAST, ("deformations.0.displacement_norm", "[0.05, 0.2, 0.45, 2]")]
    return warps.run(tmp_path_factory.mktemp("warps"), settings=fast, jobs=1)


def test_no_warp_moves_a_distance_by_more_than_its_error(measured):
    """Phi does not expand after A_0: |d_W - d| <= ||A_0 (W x - L x)|| + the same of the exact warp."""
    keys = ["image", "field_seed", warps.SIZE]
    exact = measured[measured.measured_with == warps.EXACT].set_index(keys)
    for name in warps.WARPS:
        rows = measured[measured.measured_with == name].set_index(keys)
        gap = (rows[warps.DISTANCE] - exact[warps.DISTANCE]).abs()
        assert (gap <= rows[warps.ERROR] + exact[warps.ERROR] + rows.floor + exact.floor).all()


def test_warps_stand_in_the_order_of_their_errors_and_only_bilinear_and_nearest_spoil_small_distances(measured):
    found = warps.table(measured).set_index([warps.SIZE, "measured_with"])
    for size in found.index.unique(warps.SIZE):
        errors = found.loc[size, warps.ERROR][list(warps.WARPS)]
        assert errors.is_monotonic_increasing
    small = found.loc[0.05]
    assert (small.off[["quintic", "cubic"]] < 0.05).all()
    assert small.off["bilinear"] > 0.2
    assert small.off["index"] == pytest.approx(1, abs=1e-3)


def test_the_figure_of_the_warps_is_drawn_and_the_committed_one_is_what_its_specification_asks_for(measured, tmp_path):
    written = warps.write(measured, tmp_path)
    assert all(path.stat().st_size > 0 for path in written)
    report = ROOT / "reports" / "warps"
    assert {path.name for path in report.iterdir()} == {path.name for path in written}
    file = ROOT / "experiments" / "warps.yaml"
    assert len(file.read_text().splitlines()) <= 25
    table = pd.read_csv(report / "table.csv")
    (deformation,) = read_spec(str(file)).deformations
    assert set(table[warps.SIZE]) == set(deformation.displacement_norm)
    assert set(table.measured_with) == set(warps.WARPS)


# --- the seven knobs ------------------------------------------------------------------------------------------------


def rows(**changes) -> pd.DataFrame:
    values = {
        "images": {"name": "fashion", "count": 1, "size": [16, 16]},
        "architecture": st.Architecture((st.Layer(3, 2.0), st.Layer(3, 4.0))),
        "representations": [st.LinearSpec()],
        "deformations": [st.FourierSpec(cutoff=2, displacement_norm=1.0)],
        "fields": 1,
    }
    return st.sweep(st.SweepSpec(**(values | changes)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"vary": {"layers.-1.pooling_scale": [2, 4]}}, {"sigma"}),
        ({"vary": {"layers.0.pooling_scale": [2, 4]}}, {"sigma", "kappa"}),  # the second layer's patches are narrower
        ({"vary": {"layers.*.patch_size": [3, 5]}}, {"kappa"}),
        ({"vary": {"front_end": [None, st.front_ends.MeanRemoval()]}}, set()),  # panels
        ({"deformations": [st.FourierSpec(cutoff=2, displacement_norm=[1.0, 2.0])]}, {"a", "b", "H"}),
        ({"deformations": [st.FourierSpec(cutoff=2, displacement_norm=[2.0, 3.0], jacobian_norm=0.1, shift=(1, 0))]},
         {"a"}),
        ({"deformations": [st.FourierSpec(cutoff=2, displacement_norm=4.0, jacobian_norm=[0.1, 0.2], shift=(1, 0))]},
         {"b", "H"}),
        ({"deformations": [st.TranslationSpec(displacement_norm=[1, 2], angles=2)]}, {"a"}),
        ({"vary": {"layers.*.kernel": [{"kind": "linear"}, {"kind": "exponential"}]}}, set()),
    ],
)  # fmt: skip
def test_knobs_that_move_are_found(changes, expected):
    assert moved(rows(**changes)) == expected
    assert expected <= set(KNOBS)


def test_depth_and_spectrum_are_knobs():
    depths = pd.concat([rows(architecture=st.Architecture.dyadic(depth=n, subsampling=1)) for n in (1, 2)])
    assert moved(depths) == {"n", "sigma", "kappa"}
    frame = rows(vary={"front_end": [None, st.front_ends.MeanRemoval()]})
    assert moved(frame, panels=()) == {"spectrum"}
    line = {"deformations": [st.TranslationSpec(displacement_norm=1, angles=1)]}
    sets = [rows(images={"name": name, "count": 1, "size": [16, 16]}, **line) for name in ("fashion", "blobs")]
    assert moved(pd.concat(sets)) == {"spectrum"}
    assert knobs(st.Architecture.dyadic(depth=1))["n"] == 1


def test_families_that_differ_in_a_parameter_are_different_curves():
    two = [st.CompactSpec(cutoff=2, border=border, displacement_norm=1.0) for border in (0.0, 3.0)]
    frame = rows(deformations=two)
    assert moved(frame) == set()
    assert frame.family_parameters.nunique() == 2
    assert frame.distance.nunique() == 2


def test_an_experiment_that_moves_another_knob_is_refused(tmp_path):
    wrong = common.Experiment("pooling_scale", "kappa", common.medians("pooling_scale"))
    small = [*common.FAST, ("representations", "[{kind: linear}]"), ("images.count", "1")]
    with pytest.raises(RuntimeError, match=r"must move kappa alone, got \['sigma'\]"):
        wrong.run(tmp_path / "store", settings=small, jobs=1)


def test_nystroem_distances_of_one_layer_never_exceed_the_exact_ones():
    """Whatever the anchors and however deficient their Gram matrix: a projection does not expand."""
    one = st.Architecture((st.Layer(3, 2.0),))
    counts = [(1,), (4,), (64,), (600,)]  # 600 anchors of 9 dimensions from 8 small images: nearly dependent
    frame = rows(
        architecture=one,
        images={"name": "fashion", "count": 3, "size": [16, 16]},
        representations=[st.GramSpec(), *(st.CKNSpec(filters=filters, images=8) for filters in counts)],
        deformations=[st.TranslationSpec(displacement_norm=[0.5, 2], angles=3), st.FourierSpec(jacobian_norm=0.3)],
        fields=2,
    )
    keys = ["image", "family", "field_seed", "asked_displacement_norm"]
    exact = frame[frame.representation == "gram"].set_index(keys).distance
    finite = frame[frame.representation == "ckn"].set_index(keys)
    reference = exact.reindex(finite.index).to_numpy()
    assert (finite.distance.to_numpy() <= reference * (1 + 1e-7)).all()
    most = finite[finite.filters == "600"]
    assert np.allclose(most.distance.to_numpy(), exact.reindex(most.index).to_numpy(), rtol=1e-2)


# --- the neural tangent kernel beside the CKN -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernels_measured(tmp_path_factory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The experiment ``ntk`` in its fast configuration."""
    sizes = [(f"deformations.{i}.jacobian_norm", "[0.003, 0.01, 0.1]") for i in (0, 1)]
    return ntk.run(tmp_path_factory.mktemp("ntk"), settings=[*common.FAST, *sizes], jobs=1)


def test_the_ntk_grows_more_slowly_than_linearly_and_the_ckn_does_not(kernels_measured):
    found = ntk.slopes(kernels_measured[0]).set_index(["panel", "representation_kind"])["slope"]
    assert (found.xs("gram", level=1) > 0.9).all()
    assert (found.xs("ntk", level=1) < 0.8).all()


def test_the_figure_of_the_ntk_is_drawn_and_the_committed_one_is_what_its_specification_asks_for(
    kernels_measured, tmp_path
):
    written = ntk.write(*kernels_measured, tmp_path)
    assert all(path.stat().st_size > 0 for path in written)
    report = ROOT / "reports" / "ntk"
    assert {path.name for path in report.iterdir()} == {path.name for path in written}
    file = ROOT / "experiments" / "ntk.yaml"
    assert len(file.read_text().splitlines()) <= 25
    spec = read_spec(str(file))
    assert spec.images.count >= 20
    table = pd.read_csv(report / "table.csv")
    assert set(table[ntk.SIZE].dropna()) == set(spec.deformations[0].jacobian_norm)


# --- bounds and distances against depth, and at fixed invariance ------------------------------------------------------

SMALL = {"images": {"name": "fashion", "count": 2, "size": [16, 16]}, "fields": 2}


def test_the_networks_of_the_depth_experiment_differ_in_depth_alone():
    options = depth.settings()
    for n, sizes in enumerate(options["patch_sizes"], start=1):
        network = depth.network(sizes, options["kappa_rms"], options["last_scale"])
        assert network.depth == n
        kappas = [np.sqrt((layer.patch_size**2 - 1) / 6) / sigma
                  for layer, sigma in zip(network.layers, network.scales, strict=False)]  # fmt: skip
        assert np.allclose(kappas, options["kappa_rms"])
        assert sum(sigma**2 for sigma in network.scales) == pytest.approx(16, abs=0.4 if n == 1 else 1e-9)
        assert network.scales[-1] == 2


@pytest.mark.slow
def test_distances_against_depth_stay_below_every_theorem(tmp_path):
    one = {"images": {**SMALL["images"], "count": 1}, "fields": 2, "ascent_steps": 1}
    options = depth.settings({**one, "patch_sizes": [[7, 7], [5, 5, 5, 5]]})
    rows = depth.run(options)
    for name in ("published form", "sum", "quadrature", "depth-free", "norms"):
        assert (rows["largest"] < rows[name]).all()
    assert (rows["largest"] >= rows["high"]).all()
    for _, part in rows.groupby("kind"):
        assert part["quadrature"].is_monotonic_increasing
        assert part["largest"].iloc[1] == pytest.approx(part["largest"].iloc[0], rel=0.2)
    shears = rows[rows["kind"] == "shear"]
    assert shears["depth-free"].nunique() == 1
    written = depth.write(rows, options, tmp_path)
    assert {path.name for path in (ROOT / "reports" / "depth").iterdir()} == {path.name for path in written}
    table = pd.read_csv(ROOT / "reports" / "depth" / "table.csv")
    assert set(table["layers"]) == set(range(1, 1 + len(depth.settings()["patch_sizes"])))
    assert (table["largest"] < table[["sum", "quadrature", "depth-free"]].min(axis=1)).all()


@pytest.mark.slow
def test_climbing_never_returns_a_nearer_field_and_keeps_its_kind():
    options = depth.settings({**SMALL, "fields": 1})
    picture = st.images.load("fashion", count=1, size=(16, 16))
    phi, warp = st.GramCKN(depth.network([5, 5], 1.2, 2.0)), st.BandLimitedWarp()
    field = depth.draw_fields("shear", options)
    found = depth.climb(phi, picture, field, 4, 0.1)
    assert phi.distance(picture, warp(picture, found)) > 1.1 * phi.distance(picture, warp(picture, field))
    assert (found.cosine[..., 1] == 0).all()
    assert float(found.norms().jacobian.upper) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.slow
def test_the_experiment_at_fixed_invariance_measures_what_the_argument_speaks_of(tmp_path):
    options = invariance.settings({**SMALL, "layers": [1, 3], "sigma_n": 4.0})  # two images: one distance of a pair
    rows = invariance.run(options)
    assert (rows["distance"] < rows[["linear", "quadrature", "depth_free"]].min(axis=1)).all()
    assert rows["kappa"].tolist() == pytest.approx([4.0, 4 ** (1 / 3)] * 2)
    for n in invariance.settings()["layers"]:
        network = invariance.network(n, 1.0, 8.0)
        assert (network.depth, network.scales[0], network.scales[-1]) == (n, 1.0, pytest.approx(8.0))
    apart = invariance.one_layer({**options, "patch_sizes": [3, 7]})
    assert apart.groupby("kind")["total_pooling"].nunique().tolist() == [2, 2]
    written = invariance.write(rows, apart, options, tmp_path)
    assert {path.name for path in (ROOT / "reports" / "invariance").iterdir()} == {path.name for path in written}
