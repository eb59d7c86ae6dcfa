"""Modules, CNNs and the user's own classes in a sweep: each beside a second route to its numbers."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from own_classes import Blur, Net
from sweep_cases import ARCH, spec

import stability as st
from stability import training
from stability.cli import main
from stability.sweeps.files import read_spec
from stability.sweeps.result import read_rows

TINY = {"name": "fashion", "count": 3, "size": [16, 16]}


@pytest.fixture(scope="module")
def window() -> pd.DataFrame:
    return st.sweep(
        st.SweepSpec(
            images=TINY,
            fields=2,
            representations=[
                {"kind": "lenet", "seed": 3},
                {"class_path": "own_classes.Net", "init_args": {"channels": 5}, "layers": ["features.1", "head"],
                 "mean": [0.5], "std": [0.25], "seed": 7},
            ],
            deformations=[{"kind": "compact", "cutoff": 2, "displacement_norm": [0.5, 1.0]}],
        )
    )  # fmt: skip


def field(seed: int, **norm: float) -> st.Deformation:
    generator = torch.Generator().manual_seed(seed)
    return st.control(st.CompactField.sample((16, 16), cutoff=2, generator=generator), **norm)


def test_rows_of_a_module_can_be_recomputed(window):
    x = st.images.load("fashion", count=3, size=(16, 16), torus=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = st.ModuleRepresentation(Net(5), ["features.1", "head"], mean=(0.5,), std=(0.25,))
    warp = st.SplineWarp(boundary=st.Reflect())
    rows = window[(window.representation == "Net") & (window.image == 2)]
    for row in rows.itertuples():
        tau = field(row.field_seed, displacement_norm=row.asked_displacement_norm)
        y = warp(x[2:], tau).clamp(0, 1)
        layer = net.layer_names.index(row.layer)
        recomputed = net.reference(x[2:]).distances(y)[layer].item()
        assert row.distance == pytest.approx(recomputed, rel=1e-5, abs=row.floor * row.norm_x)  # in single precision
        beyond = (warp(x[2:], tau) - 0.5).abs() - 0.5
        assert row.clipped == pytest.approx((beyond > 0.5 / 255).double().mean().item())
        norms = tau.norms()
        assert row.displacement_norm_upper == pytest.approx(norms.displacement.upper.item(), rel=1e-6)
        assert row.jacobian_norm == pytest.approx(norms.jacobian.lower.item(), rel=1e-3)
        exact = st.BandLimitedWarp(oversample=1, boundary=st.Reflect())(x[2:], tau)
        assert row.interpolation_error * row.norm_x >= 0.99 * (y - exact).norm().item() * 0.5
    assert set(rows.layer) == {"features.1", "head"}


def test_every_layer_is_a_row_and_theory_is_silent_about_modules(window):
    assert set(window[window.representation == "lenet"].layer) == {"conv1", "conv2", "hidden", "classifier"}
    assert len(window) == 3 * 4 * (4 + 2)
    assert set(window.status_closed_form) == {"not covered"}
    assert np.isinf(window.bound_closed_form).all()
    assert window.trivial.isna().all()
    assert set(window.boundary) == {"reflect"}
    assert set(window.family) == {"compact"}
    assert (window.clipped > 0).any()
    assert (window.clipped < 0.2).all()
    assert set(window.architecture) == {""}
    pairs = window.groupby(["representation", "layer"]).apply(
        lambda rows: (rows.distance / rows.distance_over_pairs).std()
    )
    assert (pairs < 1e-6).all()


def test_a_module_on_the_torus_is_measured_once_beside_varied_architectures():
    frame = st.sweep(
        spec(
            images=TINY | {"count": 2},
            representations=[st.GramSpec(), {"kind": "lenet", "layers": "conv1"}],
            vary={"layers.-1.pooling_scale": [2, 4], "front_end": [None, st.front_ends.MeanRemoval()]},
            deformations=[st.TranslationSpec(displacement_norm=1, angles=2)],
        )
    )
    counts = frame.groupby("representation").size()
    assert (counts["gram"], counts["lenet"]) == (2 * 2 * 4, 2 * 2)
    module = frame[frame.representation == "lenet"]
    assert module["layers.-1.pooling_scale"].isna().all()
    assert (module.clipped == 0).all()
    assert set(module.boundary) == {"periodic"}
    x = st.images.load("fashion", count=2, size=(16, 16))
    net = st.ModuleRepresentation(st.LeNet(size=(16, 16)), "conv1")
    y = st.BandLimitedWarp()(x, st.Translation((1.0, 0.0), size=(16, 16)))
    expected = net.distance(x, y).tolist()
    assert module[module.field_seed == 0].distance.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_first_ckn_is_fitted_to_images_of_the_set_and_has_a_bound_of_its_own():
    few = {"kind": "gaussian_ckn", "filters": [4, 6], "images": 8, "pairs": 500, "iterations": 5, "seed": 3}
    frame = st.sweep(spec(images=TINY, vary={}, representations=[few]))
    ckn = st.GaussianCKN.fit(
        ARCH, st.images.load("fashion", count=8, size=(16, 16)), filters=(4, 6), pairs=500, iterations=5,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    row = frame[(frame.family == "translation") & (frame.field_seed == 0)].iloc[0]
    tau = st.Translation((row.asked_displacement_norm, 0.0), size=(16, 16))
    ladder = st.ladder(ckn, st.images.load("fashion", count=1, size=(16, 16)), tau, refinement=False)
    assert row.distance_over_input_norm == pytest.approx(ladder.observed.item(), rel=1e-8)
    assert row.bound_closed_form == pytest.approx(ladder["closed_form"].value.item(), rel=1e-8)
    assert row.trivial == pytest.approx(ladder.trivial.item(), rel=1e-8)
    assert set(frame.representation_kind) == {"gaussian_ckn"}
    assert set(frame.filters) == {"4-6"}
    with pytest.raises(ValueError, match="kernels must be Exponential"):
        spec(images=TINY, vary={"layers.*.kernel": [st.kernels.ArcCosine(1)]}, representations=[few])


def test_a_cnn_stands_beside_the_ckn_with_a_bound_of_its_own():
    frame = st.sweep(
        spec(
            images=TINY,
            vary={},
            representations=[
                st.GramSpec(),
                {"kind": "cnn", "widths": [4, 8], "name": "random"},
                {"kind": "cnn", "widths": [4, 8], "name": "trained", "training": {"epochs": 2, "images": 40}},
                {"kind": "cnn", "widths": [4, 8], "smoothing": 4.0, "name": "smooth"},
            ],
        )
    )
    x = st.images.load("fashion", count=3, size=(16, 16))
    cnn = st.cnn(ARCH, (4, 8), generator=torch.Generator().manual_seed(0))
    for row in frame[(frame.representation == "random") & (frame.family == "translation")].itertuples():
        angle = 2 * math.pi * row.field_seed / 3
        vector = (row.asked_displacement_norm * math.cos(angle), row.asked_displacement_norm * math.sin(angle))
        i = slice(row.image, row.image + 1)
        ladder = st.ladder(cnn, x[i], st.Translation(vector, size=(16, 16)), refinement=False)
        assert row.distance_over_input_norm == pytest.approx(ladder.observed.item(), rel=1e-4)
        assert row.bound_closed_form == pytest.approx(ladder["closed_form"].value.item(), rel=1e-6)
        assert row.trivial == pytest.approx(ladder.trivial.item(), rel=1e-6)
        assert row.trivial_norms == pytest.approx(ladder["trivial_norms"].value.item(), rel=1e-6)
    allowance = frame.interpolation_error + frame.floor
    assert (frame.distance_over_input_norm <= frame.bound_closed_form + allowance).all()
    assert (frame.distance_over_input_norm <= frame.trivial + frame.floor).all()
    medians = frame.groupby("representation").distance.median()
    assert abs(medians["trained"] / medians["random"] - 1) > 1e-3
    assert set(frame[frame.representation != "gram"].representation_kind) == {"cnn"}


def test_training_in_a_sweep_leaves_the_measured_images_out():
    data = st.images.dataset("fashion")
    chosen = spec(images=TINY, representations=[{"kind": "lenet", "training": {"epochs": 1}}], vary={})
    from stability.sweeps.fitting import training_set

    images, labels = training_set(chosen, chosen.representations[0].training)
    assert len(images) == len(data.images) - 3
    assert torch.equal(labels, data.labels[3:])
    prepared = st.images.load("fashion", count=200, size=(16, 16), torus=False)
    assert torch.equal(images, prepared[3:])

    def wanted(chosen, **images):
        return spec(images=TINY | images, representations=[chosen], vary={})

    for wrong, message in (
        (wanted({"kind": "lenet", "training": {"images": 198}}), "between 1 and 197"),
        (wanted({"kind": "lenet", "training": {}}, name="blobs"), "two classes"),
        (wanted(st.CKNSpec(filters=(4, 8), images=201)), "at most 200"),
        (wanted(st.CKNSpec(filters=(4000, 8), images=2)), "training patches"),
        (wanted({"class_path": "own_classes.Net", "layers": "featurs.1"}), "did you mean 'features.1'"),
        (wanted({"class_path": "own_classes.Net", "init_args": {"width": 3}}), "init_args"),
        (wanted({"class_path": "own_classes.Drift"}), "must name a Module"),
        (wanted({"kind": "lenet", "checkpoint": "nowhere.safetensors"}), "nowhere"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            st.sweep(wrong)


def test_a_checkpoint_gives_the_network_that_was_saved(tmp_path):
    data = st.images.dataset("fashion")
    net = st.LeNet(size=(16, 16), seed=1)
    small = st.images.load("fashion", count=60, size=(16, 16), torus=False)
    training.train(net, small, data.labels[:60], epochs=2, generator=torch.Generator().manual_seed(0))
    training.save(tmp_path / "net.safetensors", net, {"seed": 1})
    wanted = st.SweepSpec(
        images=TINY,
        fields=1,
        representations=[
            {"kind": "lenet", "checkpoint": str(tmp_path / "net.safetensors"), "name": "trained", "layers": "conv2"},
            {"kind": "lenet", "seed": 1, "name": "random", "layers": "conv2"},
        ],
    )
    frame = st.sweep(wanted)
    x = st.images.load("fashion", count=3, size=(16, 16), torus=False)
    generator = torch.Generator().manual_seed(0)
    tau = st.control(st.CompactField.sample((16, 16), cutoff=3, generator=generator), displacement_norm=1.0)
    y = st.SplineWarp(boundary=st.Reflect())(x, tau).clamp(0, 1)
    expected = st.ModuleRepresentation(net, "conv2").distance(x, y)
    rows = frame[(frame.representation == "trained") & (frame.asked_displacement_norm == 1.0)]
    assert rows.distance.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    random = frame[(frame.representation == "random") & (frame.asked_displacement_norm == 1.0)]
    assert not np.allclose(rows.distance, random.distance, rtol=1e-3)


def test_the_users_representation_family_and_kernel_are_measured():
    data = ARCH.to_dict()
    data["layers"][0]["kernel"] = {"class_path": "own_classes.Cubic", "init_args": {"weight": 0.5}}
    frame = st.sweep(
        spec(
            images=TINY,
            architecture=data,
            vary={},
            fields=2,
            representations=[st.GramSpec(), {"class_path": "own_classes.Blur", "init_args": {"sigma": 2.0}}],
            deformations=[
                {"class_path": "own_classes.Drift", "init_args": {"speed": 3.0}, "displacement_norm": [1, 2]}
            ],
        )
    )
    assert set(frame.family) == {"Drift"}
    assert (frame.distance_over_input_norm <= frame.bound_closed_form + frame.interpolation_error + frame.floor).all()
    blur = frame[frame.representation == "Blur"]
    arch = st.Architecture.from_dict(json.loads(blur.architecture.iloc[0]))
    assert arch.antialiasing == 2.0
    assert arch == Blur(st.Architecture.from_dict(data), sigma=2.0).architecture
    exact = frame[frame.representation == "gram"]
    assert "Cubic" in exact.architecture.iloc[0]
    again = st.GramCKN(st.Architecture.from_dict(json.loads(exact.architecture.iloc[0])))
    row = exact.iloc[0]
    x = st.images.load("fashion", count=3, size=(16, 16))[row.image : row.image + 1]
    from own_classes import Drift

    tau = st.control(
        Drift.sample((16, 16), generator=torch.Generator().manual_seed(int(row.field_seed)), speed=3.0),
        displacement_norm=row.asked_displacement_norm,
    )
    assert row.distance == pytest.approx(again.distance(x, st.BandLimitedWarp()(x, tau)).item(), rel=1e-6)


def test_a_finite_network_reports_what_its_anchors_capture():
    counts = [(2, 4), (8, 16), (32, 64)]
    frame = st.sweep(
        spec(
            images=TINY,
            vary={},
            representations=[st.GramSpec(), *(st.CKNSpec(filters=filters, images=8) for filters in counts)],
            deformations=[st.TranslationSpec(displacement_norm=1, angles=2)],
        )
    )
    finite = frame[frame.representation == "ckn"].groupby("filters").captured_energy
    energy = [finite.min()["-".join(map(str, filters))] for filters in counts]
    assert 0.5 < energy[0] < energy[1] < energy[2] < 1 + 1e-9
    assert frame[frame.representation == "gram"].captured_energy.isna().all()
    x = st.images.load("fashion", count=8, size=(16, 16))
    ckn = st.CKN.fit(ARCH, x, filters=(8, 16), generator=torch.Generator().manual_seed(0))
    expected = ckn.captured_energy(x[:3]).prod(dim=1)
    rows = frame[(frame.filters == "8-16") & (frame.field_seed == 0)]
    assert rows.captured_energy.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_ckns_of_every_choice_of_anchors_trained_ones_too_stand_in_a_sweep(tmp_path):
    """Their rows are those of the network that the same steps make by hand."""
    spec = st.SweepSpec(
        images=st.ImagesSpec(name="fashion", count=2, size=(12, 12)),
        architecture=st.Architecture((st.Layer(3, 2.0, 2), st.Layer(3, 2.0, 1)), 0.5),
        representations=[
            {"kind": "ckn", "name": kind, "filters": (4, 5), "anchors": {"kind": kind}}
            for kind in ("k_means", "random_patches", "pivoted_cholesky")
        ] + [
            {"kind": "ckn", "name": "trained", "filters": (4, 5), "ridge": 1e-3,
             "training": {"epochs": 1, "images": 40}}
        ],
        deformations=[st.TranslationSpec(displacement_norm=[1.0], angles=1)],
        warp=st.BandLimitedWarpSpec(), seed=0,
    )  # fmt: skip
    frame = st.sweep(spec)
    assert frame.groupby("representation").distance.first().nunique() == 4
    assert (frame.distance_over_input_norm <= frame.bound_closed_form).all()
    x = st.images.load("fashion", count=200, size=(12, 12))
    rng = torch.Generator().manual_seed(0)
    ckn = st.CKN.fit(spec.architecture, x[:32], filters=(4, 5), generator=rng, ridge=1e-3).float().requires_grad_(True)
    labels = st.images.dataset("fashion").labels
    st.training.train(
        ckn, x[-40:], labels[-40:], epochs=1, generator=torch.Generator().manual_seed(0), batch_size=32,
        learning_rate=1e-3,
    )  # fmt: skip
    ckn.requires_grad_(False).double()
    trained = frame[frame.representation == "trained"]
    assert trained.norm_phi.iloc[0] == pytest.approx(float(ckn.norm(x[:1])), rel=1e-5)
    with pytest.raises(ValueError, match="leave one out"):
        st.CKNSpec(filters=(2,), training=st.TrainingSpec(), checkpoint="net.safetensors")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "k_means", "iterations": 2, "tolerance": 0.5}, st.anchors.KMeans(2, 0.5)),
        ({"kind": "pivoted_cholesky", "candidates": 300}, st.anchors.PivotedCholesky(300)),
        ({"kind": "optimised", "pairs": 100, "iterations": 3}, st.anchors.Optimised(100, 3)),
        ({"kind": "random_patches"}, st.anchors.RandomPatches()),
    ],
)
def test_a_specification_chooses_the_parameters_of_the_anchors_choice(given, expected):
    spec = st.CKNSpec(filters=(4,), anchors=given)
    assert spec.anchors.build() == expected
    assert spec.model_dump(mode="json")["anchors"] == given
    assert st.CKNSpec(**spec.model_dump(mode="json")) == spec


def test_parameters_at_their_defaults_are_not_written_and_those_of_another_choice_are_refused():
    """Specifications from before the parameters were there keep their hash."""
    plain, written = st.CKNSpec(filters=(4,)), st.CKNSpec(filters=(4,), anchors={"kind": "k_means", "iterations": 50})
    assert plain == written
    assert written.model_dump(mode="json")["anchors"] == {"kind": "k_means"}
    with pytest.raises(ValueError, match=r"candidates must be a parameter of k_means \(iterations, tolerance\)"):
        st.CKNSpec(filters=(4,), anchors={"kind": "k_means", "candidates": 5})
    with pytest.raises(ValueError, match="random_patches"):
        st.CKNSpec(filters=(4,), anchors={"kind": "random_patches", "pairs": 5})


@pytest.mark.slow
def test_a_trained_ckn_in_a_file_is_named_in_yaml_gives_its_own_ladder_and_a_report(tmp_path):
    """``stability train`` writes it, a sweep reads it: its rows are those of the network, and its bounds hold."""
    file = tmp_path / "trained.safetensors"
    words = (f"train -o {file} --model ckn --widths 4 6 --patch-sizes 3 3 --pooling-scales 1 2 --size 16 16 --epochs 2 "
             "--count 60 --head exact --learning-rate 1e-3 --kernels exponential:2.0")  # fmt: skip
    assert main(words.split()) == 0
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"""
images: {{name: fashion, count: 2, size: [16, 16]}}
architecture:
  antialiasing: 1.0
  layers:
    - {{patch_size: 3, pooling_scale: 1, kernel: {{kind: exponential, alpha: 2.0}}}}
    - {{patch_size: 3, pooling_scale: 2, kernel: {{kind: exponential, alpha: 2.0}}}}
representations:
  - {{kind: ckn, name: trained, filters: [4, 6], ridge: 1.0e-3, checkpoint: {file}}}
  - {{kind: ckn, filters: [4, 6]}}
deformations: [{{kind: fourier, cutoff: 2, displacement_norm: 0.5}}]
fields: 1
rungs: [trivial, closed_form, x_specific]
"""
    )
    store = tmp_path / "store"
    assert main(["run", str(spec), "--store", str(store), "-j", "1"]) == 0
    rows = read_rows(store)
    trained = rows[rows.representation == "trained"]
    network = st.CKN(
        read_spec(str(spec)).architecture,
        [torch.zeros(4, 9, dtype=torch.float64), torch.zeros(6, 36, dtype=torch.float64)], ridge=1e-3,
    )  # fmt: skip
    st.training.load(file, network)
    x = st.images.load("fashion", count=2, size=(16, 16))
    assert trained.norm_phi.tolist() == pytest.approx(network.norm(x).tolist(), rel=1e-9)
    assert not np.allclose(trained.distance, rows[rows.representation == "ckn"].distance, rtol=1e-3)
    for bound in ("bound_closed_form", "trivial", "bound_x_specific"):
        assert (trained.distance_over_input_norm <= trained[bound] + trained.interpolation_error + trained.floor).all()
    ladder = st.ladder(network, x, st.Translation((0.5, 0.2), size=(16, 16)), refinement=False)
    assert not ladder.violation.any()
    assert main(["report", str(store), "-o", str(tmp_path / "page.html")]) == 0
    assert "trained" in (tmp_path / "page.html").read_text()
