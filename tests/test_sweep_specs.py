"""Specifications hash, survive JSON, YAML and settings, and refuse in one line."""

import json
from importlib import metadata

import pytest
import yaml
from sweep_cases import spec

import stability as st
from stability.kernels import Kernel
from stability.sweeps.chunks import Cut
from stability.sweeps.files import read_spec

# --- specification ------------------------------------------------------------------------------------------------


def test_equal_specs_hash_equally_and_survive_json():
    a = spec(vary={"layers.-1.pooling_scale": [2, 4], "front_end": [None, st.front_ends.MeanRemoval()]})
    b = spec(vary={"layers.-1.pooling_scale": [2.0, 4.0], "front_end": [None, {"kind": "mean_removal"}]})
    assert a == b
    assert (hash(a), a.hash) == (hash(b), b.hash)
    assert st.SweepSpec.from_json(a.to_json()) == a
    assert spec(seed=1).hash != spec(seed=2).hash
    assert st.SweepSpec(**json.loads(a.to_json())).hash == a.hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": 1}, "did you mean 'images'"),
        ({"images": {"name": "fashoin"}}, "did you mean 'fashion'"),
        ({"images": {"count": 0}}, "count"),
        ({"deformations": []}, "deformations"),
        ({"deformations": [{"kind": "forier"}]}, "did you mean 'fourier'"),
        ({"deformations": [{"kind": "fourier", "cutof": 3}]}, "did you mean 'cutoff'"),
        ({"deformations": [{"kind": "fourier"}]}, "displacement_norm or jacobian_norm"),
        ({"deformations": [{"kind": "fourier", "jacobian_norm": 0.1, "shift": (1, 0)}]}, "both norms"),
        ({"deformations": [{"kind": "translation", "displacement_norm": float("nan")}]}, "nan"),
        ({"vary": {"layers.-1.poling_scale": [1]}}, "did you mean 'pooling_scale'"),
        ({"rungs": ["close_form"]}, "did you mean 'closed_form'"),
        (
            {"architecture": {"layers": [{"patch_size": 3, "pooling_scale": 1, "kernel": {"kind": "exp"}}]}},
            "exponential",
        ),
        ({"on_unreachable": "ignore"}, "on_unreachable"),
        ({"warp": {"kind": "bilinaer"}}, "did you mean 'bilinear'"),
        ({"zip": [["layers.0.pooling_scale"]]}, "a path in zip must be one of"),
        ({"vary": {"layers.-1.patch_size": [1], "layers.*.patch_size": [3]}}, "must not meet"),
        ({"vary": {"layers.-1.patch_size": [1], "layers.1.patch_size": [3]}}, "must not meet"),
        ({"refinement": True, "representations": [{"kind": "lenet"}]}, "refinement must be false"),
        ({"zip": [["front_end", "front_end"]]}, "'front_end' twice"),
        (
            {
                "vary": {"antialiasing": [1, 2], "layers.0.pooling_scale": [1]},
                "zip": ["antialiasing", "layers.0.pooling_scale"],
            },
            "equally many",
        ),
        ({"representations": [{"kind": "grma"}]}, "did you mean 'gram'"),
        ({"representations": [st.GramSpec(), st.GramSpec()]}, "give 'name'"),
        ({"representations": [{"class_path": "torch.nn.Flaten"}]}, "did you mean 'Flatten'"),
        ({"representations": [{"class_path": "nowhere.Net"}]}, "can be imported"),
        ({"representations": [{"class_path": "Net"}]}, "package.module.Class"),
        ({"representations": [{"kind": "lenet", "training": {}, "checkpoint": "x"}]}, "got both"),
        ({"representations": [{"kind": "cnn", "widths": [4]}]}, "widths must have one number per layer"),
        ({"images": {"domain": "window"}}, "domain must be 'torus'"),
        ({"deformations": [{"class_path": "torch.nn.Flatten", "displacement_norm": 1}]}, "method 'sample'"),
        ({"deformations": [{"kind": "affine", "displacement_norm": 1, "jacobian_norm": 1}]}, "one norm"),
        ({"deformations": [{"kind": "saturated", "displacement_norm": 1}]}, "jacobian_norm"),
    ],
)
def test_wrong_specs_are_told_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        spec(**changes)
    assert "\n" not in str(error.value)


def test_wrong_sizes_and_jobs_are_told_before_any_work():
    with pytest.raises(ValueError, match="multiple of"):
        st.sweep(spec(images=st.ImagesSpec(size=(15, 15)), architecture=st.Architecture.dyadic(depth=2), vary={}))
    with pytest.raises(ValueError, match="jobs"):
        st.sweep(spec(), jobs=0)


# --- tied knobs, defaults, settings, the user's own classes ---------------------------------------------------------


def test_zipped_paths_move_together_and_the_others_are_combined():
    paths = ("layers.0.pooling_scale", "layers.1.pooling_scale")
    tied = spec(vary={paths[0]: [1, 2], "antialiasing": [1, 2], paths[1]: [2, 4]}, zip=[paths])
    points = {(p["antialiasing"], p[paths[0]], p[paths[1]]): arch.scales for p, arch in tied.architectures()}
    assert points == {(s, a, b): (s, a, b) for s in (1, 2) for a, b in ((1, 2), (2, 4))}
    assert tied == spec(vary={f"architecture.{k}": v for k, v in tied.vary.items()}, zip=paths)


def test_plain_modules_are_measured_in_a_window_under_compact_fields_by_default():
    modules = st.SweepSpec(representations=[{"kind": "lenet"}])
    assert modules.images.domain == "window"
    assert [family.kind for family in modules.deformations] == ["compact"]
    assert modules.warp.kind == "spline"
    mixed = spec(representations=[st.GramSpec(), {"kind": "lenet"}])
    assert (mixed.images.domain, mixed.warp.kind) == ("torus", "band_limited")
    assert st.SweepSpec.from_json(modules.to_json()) == modules


def test_file_settings_and_python_give_the_same_spec(tmp_path):
    base = spec()
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(json.loads(base.to_json())))
    assert read_spec(str(file)) == base
    changed = read_spec(
        str(file),
        [
            ("images.count", "3"),
            ("architecture.layers.-1.pooling_scale", "8"),
            ("vary.layers.-1.pooling_scale", "[1, 2]"),
            ("deformations.0.displacement_norm", "[0.25]"),
            ("fields", "1"),
        ],
    )
    data = json.loads(base.to_json())
    data["images"]["count"], data["fields"] = 3, 1
    data["architecture"]["layers"][-1]["pooling_scale"] = 8
    data["vary"]["layers.-1.pooling_scale"] = [1, 2]
    data["deformations"][0]["displacement_norm"] = [0.25]
    assert changed == st.SweepSpec(**data)
    assert changed.hash == st.SweepSpec(**data).hash
    alone = read_spec(None, [("deformations", "[{kind: translation, displacement_norm: 1}]"), ("images.count", "2")])
    assert alone == st.SweepSpec(images={"count": 2}, deformations=[st.TranslationSpec(displacement_norm=1)])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("imags.count", "1"), "did you mean 'images'"),
        (("images.cuont", "1"), "did you mean 'count'"),
        (("deformations.7.angles", "1"), "entry from 0 to 2"),
        (("deformations.x", "1"), "entry from 0 to 2"),
        (("fields.x", "1"), "plain value"),
        (("images.size", "[1"), "must be YAML"),
    ],
)
def test_wrong_settings_are_told_in_one_line(setting, message, tmp_path):
    file = tmp_path / "spec.json"
    file.write_text(spec().to_json())
    with pytest.raises(ValueError, match=message) as error:
        read_spec(str(file), [setting])
    assert "\n" not in str(error.value)


def test_a_users_kernel_is_named_by_its_class_path():
    data = spec().architecture.to_dict()
    data["layers"][0]["kernel"] = {"class_path": "own_classes.Cubic", "init_args": {"weight": 0.5}}
    arch = st.Architecture.from_dict(data)
    assert isinstance(arch.layers[0].kernel, Kernel)
    assert arch.layers[0].kernel.weight == 0.5
    assert st.Architecture.from_dict(json.loads(arch.to_json())) == arch
    for wrong, message in (
        ({"class_path": "torch.nn.Flatten"}, "must name a Kernel"),
        ({"class_path": "own_classes.Cubic", "init_args": {"wieght": 1}}, "init_args"),
        ({"class_path": "own_classes.Cubic", "args": {}}, "did you mean 'init_args'"),
    ):
        data["layers"][0]["kernel"] = wrong
        with pytest.raises(ValueError, match=message):
            st.Architecture.from_dict(data)


def test_registered_classes_are_kinds(monkeypatch):
    def points(group):
        found = {
            "stability.kernels": [("cubic", "own_classes:Cubic")],
            "stability.deformations": [("drift", "own_classes:Drift")],
            "stability.representations": [("blur", "own_classes:Blur")],
        }[group]
        return [metadata.EntryPoint(name, value, group) for name, value in found]

    monkeypatch.setattr(metadata, "entry_points", points)
    data = spec().architecture.to_dict()
    data["layers"][0]["kernel"] = {"kind": "cubic", "weight": 0.5}
    named = spec(
        architecture=data,
        vary={},
        representations=[{"kind": "blur", "sigma": 2.0, "name": "my blur"}],
        deformations=[{"kind": "drift", "speed": 2, "displacement_norm": [1, 2]}],
    )
    by_path = {"class_path": "own_classes.Cubic", "init_args": {"weight": 0.5}}
    assert (
        named.architecture.layers[0].kernel
        == st.Architecture.from_dict(data | {"layers": [{**data["layers"][0], "kernel": by_path}]}).layers[0].kernel
    )
    assert named.representations[0].init_args == {"sigma": 2.0}
    assert named.representations[0].label == "my blur"
    assert named == spec(
        architecture=named.architecture,
        vary={},
        representations=[{"class_path": "own_classes.Blur", "init_args": {"sigma": 2.0}, "name": "my blur"}],
        deformations=[{"class_path": "own_classes.Drift", "init_args": {"speed": 2}, "displacement_norm": [1, 2]}],
    )


# --- chunks ---------------------------------------------------------------------------------------------------------


def test_chunks_cover_every_cell_once():
    many = spec(images={"name": "fashion", "count": 7, "size": [28, 28]}, fields=5)
    cut = Cut(many)
    seen = set()
    for chunk in cut.chunks:
        if not chunk.pairs:
            cells = {(chunk.model, i, f) for i in range(*chunk.images) for f in range(*chunk.draws)}
            assert not seen & cells
            assert chunk.cells == (chunk.images[1] - chunk.images[0]) * sum(
                len(draw.pairs) for draw in cut.draws[slice(*chunk.draws)]
            )
            seen |= cells
    assert len(seen) == len(cut.models) * 7 * len(cut.draws)
    assert len({chunk.address for chunk in cut.chunks}) == len(cut.chunks)


def test_addresses_change_with_what_they_stand_for_and_with_nothing_else(monkeypatch):
    base = {chunk.address for chunk in Cut(spec()).chunks}
    assert base == {chunk.address for chunk in Cut(st.SweepSpec.from_json(spec().to_json())).chunks}
    fourier = {"deformations": [st.FourierSpec(cutoff=2, displacement_norm=1.0)]}
    one, other = ({c.address for c in Cut(spec(seed=j, **fourier)).chunks if not c.pairs} for j in (0, 1))
    assert not one & other
    for change in ({"warp": {"kind": "spline"}}, {"refinement": True}, {"rungs": ["trivial"]}):
        other = {chunk.address for chunk in Cut(spec(**change)).chunks if not chunk.pairs}
        assert not base & other
    monkeypatch.setattr("stability.sweeps.chunks.code_version", lambda: "another")
    assert not base & {chunk.address for chunk in Cut(spec()).chunks}


def test_code_version_sees_code_and_neither_comments_nor_docstrings(tmp_path, monkeypatch):
    from stability.sweeps import version

    def versions(text):
        (tmp_path / "grid.py").write_text(text)
        version.code_version.cache_clear()
        return version.code_version()

    monkeypatch.setattr(version, "PACKAGE", tmp_path)
    monkeypatch.setattr(version, "COUNTS", ("grid.py",))
    try:
        first = versions('"""Words."""\ndef f(x):\n    """More."""\n    return x + 1\n')
        assert (
            versions('"""Other."""\n\n# a comment\ndef f(x):\n    """Else."""\n    return x + 1  # one more\n') == first
        )
        assert versions("def f(x):\n    return x + 2\n") != first
    finally:
        version.code_version.cache_clear()
    monkeypatch.undo()
    assert all((version.PACKAGE / name).exists() for name in version.COUNTS)


def test_the_order_of_keys_means_nothing(tmp_path):
    one = spec(vary={"layers.-1.pooling_scale": [1, 2], "antialiasing": [1, 2]}, rungs=["trivial", "closed_form"])
    other = st.SweepSpec.from_json(one.to_json())
    assert one == other
    assert one.hash == spec(vary={"antialiasing": [1, 2], "layers.-1.pooling_scale": [1, 2]}).hash
    assert [c.address for c in Cut(one).chunks] == [c.address for c in Cut(other).chunks]
    tied = spec(
        vary={"layers.1.pooling_scale": [1, 2], "antialiasing": [1, 2]}, zip=["layers.1.pooling_scale", "antialiasing"]
    )
    swapped = spec(vary=tied.vary, zip=[["antialiasing", "layers.1.pooling_scale"]])
    assert tied.hash == swapped.hash


def test_images_do_not_depend_on_how_many_are_asked_for():
    for name in ("blobs", "fashion"):
        few, many = (st.images.load(name, count=count, size=(16, 16)) for count in (1, 5))
        assert (few[0] == many[0]).all()
