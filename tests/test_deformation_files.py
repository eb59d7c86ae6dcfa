"""Fields in files: what is read is what was written, and what was not written is refused."""

import importlib
import inspect
import io
import json
import os
import zipfile
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from safetensors.torch import save as pack

import stability as st
from stability import deformations
from stability.deformations import files
from stability.deformations.base import Deformation
from stability.deformations.composition import compose
from stability.deformations.files import FAMILIES, load_deformation, save
from stability.deformations.inverse import inverse
from stability.deformations.series import FourierSeries

SUFFIXES = (".npz", ".safetensors")
SIZE = (16, 24)
SAMPLED = {
    "AffineField": {},
    "BumpField": {},
    "CompactField": {"cutoff": 2, "border": 1.5},
    "DivergenceFreeField": {"cutoff": 2},
    "FlowField": {"cutoff": 2},
    "FourierField": {"cutoff": 3},
    "GaussianField": {"smoothing": 4.0},
    "GradientField": {"cutoff": 2},
    "LocalAffineField": {},
    "MaxEntropyField": {"cutoff": 3, "temperature": 0.1},
    "MixedField": {"displacement_norm": 2.0, "jacobian_norm": 0.5},
    "PiecewiseLinearField": {"cutoff": 2},
    "SplineField": {},
    "ThinPlateField": {},
}
"""Families that draw fields, and what their ``sample`` needs."""


def sampled(name, size=SIZE, batch_shape=(3,)):
    generator = torch.Generator().manual_seed(7)
    return files._family(name).sample(size, batch_shape=batch_shape, generator=generator, **SAMPLED[name])


def fourier(size=SIZE, batch_shape=(3,)):
    return sampled("FourierField", size, batch_shape)


def plain_series():
    field = fourier()
    return FourierSeries(field.modes, field.cosine, field.sine, size=SIZE)


MADE = {
    "Composition": lambda: compose(fourier(), sampled("CompactField")),
    "Inverse": lambda: inverse(st.control(fourier(), jacobian_norm=0.5)),
    "FourierSeries": plain_series,
    "Sum": lambda: fourier() + st.Translation((3.0, 0.0), SIZE) + sampled("CompactField"),
    "Translation": lambda: st.Translation(torch.tensor([[1.0, 2.0], [0.1, -3.0]], dtype=torch.float64), SIZE),
}
"""Families that are made otherwise."""


def made(name):
    return MADE[name]() if name in MADE else sampled(name)


def points(d):
    return 30 * torch.rand(40, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 5


def again(field, folder, suffix=".npz"):
    return load_deformation(save(field, folder / f"field{suffix}", overwrite=True))


def same(field, other, exact=True):
    at = points(field.d)
    assert type(other) is type(field)
    assert (other.size, other.batch_shape, other.dtype) == (field.size, field.batch_shape, field.dtype)
    assert other.domain == field.domain
    assert other.state()[1] == field.state()[1]
    for values, expected in [
        (other.displacement(at), field.displacement(at)),
        (other.jacobian(at), field.jacobian(at)),
        (other.mean, field.mean),
    ]:
        if exact:
            assert torch.equal(values, expected)
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)


# --- round trips ----------------------------------------------------------------------------------------------------


def concrete():
    """Every family of the package."""
    modules = [
        importlib.import_module(f"{deformations.__name__}.{one.name}") for one in iter_modules(deformations.__path__)
    ]
    classes = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    return {cls for cls in classes if issubclass(cls, Deformation) and not inspect.isabstract(cls)}


def test_files_know_every_family_and_every_family_makes_a_round_trip_below():
    assert {cls.__name__: cls.__module__ for cls in concrete()} == dict(FAMILIES)
    assert SAMPLED.keys() | MADE.keys() == FAMILIES.keys()
    assert not SAMPLED.keys() & MADE.keys()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_field_is_read_as_it_was_written(name, suffix, tmp_path):
    field = made(name)
    exact = name != "ThinPlateField"  # its weights are solved for again
    same(field, again(field, tmp_path, suffix))
    same(field[1:], again(field[1:], tmp_path, suffix), exact)
    same(0.3 * field, again(0.3 * field, tmp_path, suffix), exact)
    same(field.refined(2), again(field.refined(2), tmp_path, suffix), exact)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["CompactField", "FourierField", "MaxEntropyField", "SplineField"])
def test_signals_types_and_single_fields_are_kept(name, suffix, tmp_path):
    signal = sampled(name, (24,), ())
    same(signal, again(signal, tmp_path, suffix))
    single = sampled(name, batch_shape=(2, 1)).to(dtype=torch.float32)
    same(single, again(single, tmp_path, suffix))


@pytest.mark.parametrize("name", ["CompactField", "FourierField", "Sum", "Translation"])
def test_norms_are_those_of_the_field_that_was_written(name, tmp_path):
    field = made(name)
    read = again(field, tmp_path).norms()
    for kind in ("displacement", "jacobian"):
        expected, got = getattr(field.norms(), kind), getattr(read, kind)
        assert torch.equal(got.lower, expected.lower)
        assert torch.equal(got.upper, expected.upper)


def test_parts_of_parts_are_kept(tmp_path):
    flow = files._family("FlowField")(sampled("CompactField"))
    whole = flow + st.Translation((0.5, 0.0), SIZE)
    read = again(whole, tmp_path)
    same(whole, read)
    assert [type(part).__name__ for part in read.parts] == ["FlowField", "Translation"]
    assert type(read.parts[0].velocity).__name__ == "CompactField"


def test_gradients_stay_behind_and_the_device_can_be_chosen(tmp_path):
    field = fourier()
    learnt = st.FourierField(field.modes, field.cosine.clone().requires_grad_(), field.sine, size=SIZE)
    read = load_deformation(learnt.save(tmp_path / "a.npz"), device="cpu")
    assert not read.cosine.requires_grad
    assert read.device == torch.device("cpu")
    assert load_deformation(tmp_path / "a.npz", device="meta").cosine.device.type == "meta"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_fields_give_equal_bytes(suffix, tmp_path):
    first, second = save(fourier(), tmp_path / f"a{suffix}"), save(fourier(), tmp_path / f"b{suffix}")
    assert first.read_bytes() == second.read_bytes()


def test_the_schema_is_the_documented_one(tmp_path):
    path = save(sampled("CompactField"), tmp_path / "a.npz")
    with np.load(path, allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].item())
        cosine = arrays["tensors/inner/cosine"]
        assert set(arrays.files) == {
            "header",
            *(f"tensors/inner/{name}" for name in ("modes", "cosine", "sine", "mean")),
        }
    assert header["format"] == "stability-deformation"
    assert header["version"] == 1
    assert header["family"] == "CompactField"
    assert header["settings"] == {"border": 1.5, "rise": None, "edge": 0.5}
    inner = header["parts"]["inner"]
    assert inner["family"] == "FourierSeries"
    assert inner["settings"] == {"size": list(SIZE)}
    assert inner["tensors"]["cosine"] == {"dtype": "float64", "shape": list(cosine.shape)}


def test_settings_are_tuples_again():
    settings = (1, (2.5, "a", None), True)
    assert files._plain(json.loads(json.dumps(settings))) == settings


# --- refusals -------------------------------------------------------------------------------------------------------


def changed(path, **changes):
    """The npz file with other values in its header; tensors by name."""
    with np.load(path) as arrays:
        content = dict(arrays)
    header = json.loads(content["header"].item())
    for name, value in changes.items():
        if name in content:
            content[name] = value
        elif value is None:
            del header[name]
        else:
            header[name] = value
    np.savez(path, **content | {"header": np.array(json.dumps(header))})


def written(folder):
    return save(fourier(), folder / "field.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "FourierFeild"}, "did you mean 'FourierField'"),
        ({"family": "os.system"}, "family must be one of"),
        ({"family": None}, "family"),
        ({"version": 2}, "version .* must be 1, got 2"),
        ({"version": None}, "version"),
        ({"format": "other"}, "format"),
        ({"settings": {"size": [16]}}, "modes"),
        ({"settings": {"size": [16, 24], "colour": 1}}, "colour"),
        ({"settings": {"size": {"H": 16}}}, "plain"),
        ({"settings": [1]}, "settings"),
        ({"tensors": {}}, "cosine"),
        ({"parts": {"inner": 3}}, "family"),
        ({"tensors/cosine": np.zeros((3, 2, 2))}, "tensors/cosine must be"),
        ({"tensors/cosine": np.zeros((3, 14, 2), dtype=np.float32)}, "tensors/cosine must be"),
        ({"tensors/cosine": np.array(["a"])}, "file of fields"),
    ],
)
def test_headers_that_fit_no_field_are_told(changes, words, tmp_path):
    path = written(tmp_path)
    changed(path)
    load_deformation(path)  # the helper alone breaks nothing
    changed(path, **changes)
    with pytest.raises(ValueError, match=words) as raised:
        load_deformation(path)
    assert str(path) in str(raised.value)


def test_shapes_that_the_family_refuses_are_told(tmp_path):
    path = written(tmp_path)
    with np.load(path) as arrays:
        header = json.loads(arrays["header"].item())
    header["tensors"]["mean"]["shape"] = [5, 2]  # three fields, five means
    changed(path, **{"tensors/mean": np.zeros((5, 2)), "tensors": header["tensors"]})
    with pytest.raises(ValueError, match="file of fields"):
        load_deformation(path)


def test_tensors_beyond_the_header_are_told(tmp_path):
    path = written(tmp_path)
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **content, other=np.zeros(3))
    with pytest.raises(ValueError, match="other"):
        load_deformation(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_torn_files_are_told_at_every_length(suffix, tmp_path):
    path = save(fourier(), tmp_path / f"a{suffix}")
    content = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match="must be a file of fields"):
            load_deformation(path)


def test_damaged_bytes_of_an_archive_are_told(tmp_path):
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    middle = content.index(b"tensors/cosine") + 300
    content[middle] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a file of fields"):
        load_deformation(path)


def pickled():
    stream = io.BytesIO()
    np.savez(stream, header=np.array([{"format": "stability-deformation"}], dtype=object))
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "no fields here")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".npz", b"no archive"),
        (".npz", pickled()),
        (".npz", zipped()),
        (".safetensors", b"no tensors at all"),
        (".safetensors", pack({"weight": torch.zeros(3)})),
        (".safetensors", pack({"weight": torch.zeros(3)}, metadata={"header": "{"})),
        (".safetensors", pack({"weight": torch.zeros(3)}, metadata={"header": "[" * 100_000})),
        (".safetensors", pack({"weight": torch.zeros(3)}, metadata={"header": "[]"})),
    ],
)
def test_foreign_files_are_told_and_nothing_in_them_is_run(suffix, content, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a file of fields"):
        load_deformation(path)


def test_wrong_paths_are_told(tmp_path):
    for call in (lambda path: save(fourier(), path), load_deformation):
        with pytest.raises(ValueError, match=r"suffix of path must be one of '.npz', '.safetensors', got '.pt'"):
            call(tmp_path / "field.pt")
    with pytest.raises(ValueError, match="folder that exists"):
        save(fourier(), tmp_path / "nowhere" / "field.npz")
    with pytest.raises(ValueError, match="must be a file, got"):
        load_deformation(tmp_path / "field.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match="new file"):
        save(fourier(), tmp_path / "folder.npz", overwrite=True)


def test_fields_of_other_classes_are_told(tmp_path):
    class Translation(FourierSeries):
        """A name of the list, another class."""

    field = fourier()
    own = Translation(field.modes, field.cosine, field.sine, size=SIZE)
    for one in (own, sampled("CompactField") + own):
        with pytest.raises(ValueError, match="family that files know, got Translation"):
            save(one, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_types_that_a_format_lacks_are_told(tmp_path):
    field = fourier().to(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"use \.safetensors"):
        save(field, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
    assert again(field, tmp_path, ".safetensors").dtype == torch.bfloat16


# --- one file, whole or not at all ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_replaced_only_when_asked(suffix, tmp_path):
    path = save(fourier(), tmp_path / f"a{suffix}")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="pass overwrite=True"):
        save(2 * fourier(), path)
    assert path.read_bytes() == before
    (2 * fourier()).save(path, overwrite=True)
    same(2 * fourier(), load_deformation(path))


def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    link = os.link

    def late(source, target):
        target.write_bytes(b"of another process")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(ValueError, match="pass overwrite=True"):
        save(fourier(), path)
    assert path.read_bytes() == b"of another process"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_cannot_be_finished_leaves_nothing_behind(overwrite, tmp_path, monkeypatch):
    from pathlib import Path

    path = tmp_path / "a.npz"
    if overwrite:
        save(fourier(), path)
    before = path.read_bytes() if overwrite else None
    write = Path.write_bytes

    def full(self, content):
        write(self, content[: len(content) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save(2 * fourier(), path, overwrite=overwrite)
    assert [one.name for one in tmp_path.iterdir()] == (["a.npz"] if overwrite else [])
    assert before is None or path.read_bytes() == before


def test_file_systems_without_hard_links_hold_fields_too(tmp_path, monkeypatch):
    def refuses(source, target):
        raise PermissionError("no hard links")

    monkeypatch.setattr(os, "link", refuses)
    same(fourier(), again(fourier(), tmp_path))
    fourier().save(tmp_path / "b.npz")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b.npz", "field.npz"]
