"""The user's own files: read as they were written, by hand; torn and hostile ones are told in one line."""

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

import stability as st

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([1, 0, 1, 0, 0, 1])
ORDER = [1, 0, 3, 2, 4, 5]
"""Classes alternate: the first of class 0, the first of class 1, ..."""


def truth(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images[ORDER].astype(np.float64) / 255)


# --- writers, from the formats' descriptions --------------------------------------------------------------------------


def write_idx(folder, zipped):
    for stem, array in (("train-images-idx3-ubyte", PICTURES[:, 0]), ("train-labels-idx1-ubyte", LABELS)):
        data = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        data += array.astype(np.uint8).tobytes()
        (folder / f"{stem}{'.gz' if zipped else ''}").write_bytes(gzip.compress(data) if zipped else data)


def write_cifar10_binary(folder):
    for i, part in enumerate((slice(0, 4), slice(4, 6)), start=1):
        pairs = zip(LABELS[part], PICTURES[part], strict=True)
        records = b"".join(bytes([label]) + picture.tobytes() for label, picture in pairs)
        (folder / f"data_batch_{i}.bin").write_bytes(records)


def write_cifar100_binary(folder):
    pairs = zip(LABELS, PICTURES, strict=True)
    (folder / "train.bin").write_bytes(b"".join(bytes([7, label]) + picture.tobytes() for label, picture in pairs))
    (folder / "fine_label_names.txt").write_text("\n".join(f"name{i}" for i in range(100)))


def write_cifar10_python(folder, protocol):
    batch = {b"data": PICTURES.reshape(6, -1), b"labels": LABELS.tolist(), b"batch_label": b"testing"}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"name{i}" for i in range(10)]}, protocol=2))


def write_npz(folder):
    np.savez_compressed(folder / "mine.npz", x_train=np.moveaxis(PICTURES, 1, 3), y_train=LABELS[:, None])


def write_pictures(folder):
    for i, (picture, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
        own = folder / f"class{label}"
        own.mkdir(exist_ok=True)
        Image.fromarray(np.moveaxis(picture, 0, 2)).save(own / f"{i}.png")
    (folder / "class0" / "notes.txt").write_text("no picture")


WRITERS = {
    "idx": ("idx", lambda folder: write_idx(folder, False)),
    "idx gzipped": ("idx", lambda folder: write_idx(folder, True)),
    "cifar10 binary": ("cifar10", write_cifar10_binary),
    "cifar10 python": ("cifar10", lambda folder: write_cifar10_python(folder, 2)),
    "cifar10 python new": ("cifar10", lambda folder: write_cifar10_python(folder, 5)),
    "cifar100 binary": ("cifar100", write_cifar100_binary),
    "npz": ("npz", write_npz),
    "folder": ("folder", write_pictures),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_and_labels_come_back_as_they_were_written(kind, tmp_path):
    name, write = WRITERS[kind]
    write(tmp_path)
    data = st.images.dataset(name, tmp_path)
    expected = truth(PICTURES[:, :1] if name == "idx" else PICTURES)
    assert torch.equal(data.images, expected)
    assert data.labels.tolist() == LABELS[ORDER].tolist()
    assert data.source == str(tmp_path)
    assert torch.equal(st.images.dataset(name, tmp_path, count=3).images, expected[:3])
    words = {"cifar10 binary": "1", "idx": "1", "idx gzipped": "1", "npz": "1", "folder": "class1"}
    assert data.names[1] == words.get(kind, "name1")


@pytest.mark.parametrize("kind", WRITERS)
def test_files_become_prepared_images_grey_or_in_colour(kind, tmp_path, monkeypatch):
    name, write = WRITERS[kind]
    write(tmp_path)
    grey = st.images.load(name, count=2, size=(40, 40), root=tmp_path)
    assert grey.shape == (2, 1, 40, 40)
    assert torch.allclose(st.grid.band_limit(grey), grey, atol=1e-14)
    if name != "idx":
        colour = st.images.load(name, count=2, size=(32, 32), channels=3, root=tmp_path, torus=False)
        assert torch.equal(colour, truth(PICTURES)[:2])
        flat = st.images.load(name, count=2, size=(32, 32), root=tmp_path, torus=False)
        weights = torch.tensor([0.2125, 0.7154, 0.0721], dtype=torch.float64)
        assert torch.allclose(flat[:, 0], (colour * weights.view(3, 1, 1)).sum(1))
    monkeypatch.setenv("STABILITY_DATA", str(tmp_path))
    assert st.images.load(name, count=2, size=(16,)).shape == (2, 1, 16)


@pytest.mark.parametrize("kind", WRITERS)
def test_torn_files_give_one_error_that_names_the_file(kind, tmp_path):
    """Cut anywhere, or with any byte changed, a file is read or refused; nothing else is raised."""
    name, write = WRITERS[kind]
    write(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".txt"]
    rng, refused = np.random.default_rng(1), []
    for trial in range(60):
        path = files[trial % len(files)]
        whole = path.read_bytes()
        if trial % 2:
            torn = whole[: int(rng.integers(0, len(whole)))]
        else:
            torn = bytearray(whole)
            torn[int(rng.integers(0, min(len(whole), 400)))] ^= int(rng.integers(1, 256))
        path.write_bytes(torn)
        try:
            st.images.dataset(name, tmp_path)
        except ValueError as error:
            refused.append((path.name, str(error)))
        path.write_bytes(whole)
    assert len(refused) > 15
    for file, message in refused:
        assert "\n" not in message
        assert any(word in message for word in (file, "belong together", "root must hold")), message
    st.images.dataset(name, tmp_path)


def test_a_pickle_runs_no_code(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for batch in ({b"data": Hostile(), b"labels": [0]}, Hostile()):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch))
        with pytest.raises(ValueError, match=r"data_batch_1 must be a whole pickle .*\.system"):
            st.images.dataset("cifar10", tmp_path)
        assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Hostile()))  # the control: an ordinary reader does run it
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3072), dtype=np.float64), np.array([[None] * 3072], dtype=object), np.zeros((2, 5), dtype=np.uint8)],
    ids=["floats", "objects", "too few"],
)
def test_a_pickle_of_other_arrays_is_refused(array, tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": array, "labels": [0] * len(array)}))
    with pytest.raises(ValueError, match="data_batch_1 must"):
        st.images.dataset("cifar10", tmp_path)


def test_an_archive_with_python_objects_is_refused(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="whole npz file of plain arrays"):
        st.images.dataset("npz", tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": PICTURES}, "under one of the names"),
        ({"images": PICTURES[0, 0]}, r"\(N, H, W\)"),
        ({"images": np.zeros((2, 3, 8, 1))}, "where its channels are"),
        ({"images": np.zeros((2, 5, 8, 9))}, "1 or 3 channels"),
        ({"images": np.zeros((0, 8, 9))}, "at least one pixel"),
        ({"images": PICTURES.astype(np.float64)}, "divide by 255"),
        ({"images": np.full((1, 4, 4), np.nan)}, "divide by 255"),
        ({"images": PICTURES.astype(np.int32)}, "uint8 or floats"),
        ({"images": PICTURES, "labels": LABELS[:3]}, "one integer label"),
        ({"images": PICTURES, "labels": LABELS - 1}, "label >= 0"),
        ({"images": PICTURES, "labels": LABELS + 0.5}, "one integer label"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_told(arrays, message, tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        st.images.dataset("npz", tmp_path)


def test_layouts_and_types_of_arrays_agree(tmp_path):
    found = []
    for i, array in enumerate((PICTURES, np.moveaxis(PICTURES, 1, 3), PICTURES / 255.0)):
        np.savez(tmp_path / f"{i}.npz", images=array)
        found.append(st.images.dataset("npz", tmp_path / f"{i}.npz"))
    assert all(torch.equal(data.images, found[0].images) for data in found)
    assert found[0].labels.tolist() == [0] * 6


def test_pictures_of_different_sizes_are_cropped_and_resampled_whatever_is_asked_for(tmp_path):
    for i, (shape, value) in enumerate((((30, 40), 51), ((30, 40), 102), ((90, 60, 3), 255))):
        Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    data = st.images.dataset("folder", tmp_path)
    assert data.images.shape == (3, 3, 256, 256)
    assert torch.allclose(data.images[:, 0].mean((1, 2)), torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64))
    two = st.images.load("folder", count=2, size=(20, 10), root=tmp_path, torus=False)
    three = st.images.load("folder", count=3, size=(20, 10), root=tmp_path, torus=False)
    assert torch.allclose(three[:2], two, atol=1e-14)
    assert data.names == (tmp_path.name,)


def test_deep_grey_and_turned_photographs_are_read_as_they_look(tmp_path):
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert torch.allclose(
        st.images.dataset("folder", tmp_path).images[0, 0], torch.from_numpy(deep.astype(np.float64)) / 65535
    )
    (tmp_path / "deep.png").unlink()
    wide = Image.fromarray(np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None], 8, axis=0))
    exif = wide.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    wide.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    image = st.images.dataset("folder", tmp_path).images[0, 0]
    assert image.shape == (30, 8)
    assert (image.diff(dim=0) > 0).all()


@pytest.mark.parametrize(
    ("name", "prepare", "message"),
    [
        ("idx", lambda p: None, "train-images-idx3-ubyte"),
        ("cifar10", lambda p: None, "data_batch_1"),
        ("cifar100", lambda p: (p / "train.bin").write_bytes(b""), "records of 3074 bytes"),
        ("cifar10", lambda p: (p / "data_batch_1.bin").write_bytes(b"\x0b" + bytes(3072)), "below 10"),
        ("npz", lambda p: None, "one npz file"),
        ("folder", lambda p: None, "must hold pictures"),
        ("folder", lambda p: write_pictures(p) or Image.new("L", (2, 2)).save(p / "a.png"), "got both"),
        ("folder", lambda p: (p / "a.jpg").write_bytes(b"no picture"), r"a\.jpg must be a whole picture"),
    ],
)
def test_folders_without_the_files_are_told(name, prepare, message, tmp_path):
    prepare(tmp_path)
    with pytest.raises(ValueError, match=message):
        st.images.dataset(name, tmp_path)


def test_without_a_folder_or_with_wrong_requests_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("STABILITY_DATA", raising=False)
    with pytest.raises(ValueError, match="STABILITY_DATA"):
        st.images.dataset("cifar10")
    with pytest.raises(ValueError, match="did you mean 'cifar10"):
        st.images.dataset("cifar")
    with pytest.raises(ValueError, match="count must be"):
        st.images.dataset("fashion", count=0)
    write_idx(tmp_path, False)
    with pytest.raises(ValueError, match="channels of 'idx'"):
        st.images.load("idx", channels=3, root=tmp_path)
    with pytest.raises(ValueError, match="at most 6"):
        st.images.load("idx", count=7, root=tmp_path)
    np.savez(tmp_path / "grey.npz", images=PICTURES[:, 0])
    with pytest.raises(ValueError, match="they are grey"):
        st.images.load("npz", count=1, channels=3, root=tmp_path)


def test_a_gzip_file_is_read_no_further_than_its_header_promises(tmp_path):
    write_idx(tmp_path, True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(10**6)))
    with pytest.raises(ValueError, match="must hold 6144 bytes, got more"):
        st.images.dataset("idx", tmp_path)


def test_a_sweep_measures_the_users_files(tmp_path):
    write_cifar10_binary(tmp_path)
    frame = st.sweep(
        st.SweepSpec(
            images={"name": "cifar10", "root": str(tmp_path), "count": 2, "size": [16, 16], "channels": 3},
            architecture=st.Architecture((st.Layer(3, 2.0),)),
            representations=[st.GramSpec()],
            deformations=[st.TranslationSpec(displacement_norm=1.0, angles=1)],
        )
    )
    assert frame.label.tolist() == [0, 1]
    assert (frame.distance > 0).all()


def test_a_picture_that_was_replaced_is_read_anew(tmp_path):
    """Sizes are remembered for the files as they were: of one size, of two, of one again."""
    for name in ("0.png", "1.png"):
        Image.new("L", (20, 20)).save(tmp_path / name)
    assert st.images.dataset("folder", tmp_path).images.shape == (2, 1, 20, 20)
    Image.new("L", (30, 24)).save(tmp_path / "0.png")
    assert len(st.images.load("folder", count=2, size=(16, 16), root=tmp_path)) == 2
    Image.new("L", (20, 20), 255).save(tmp_path / "0.png")
    assert st.images.dataset("folder", tmp_path).images.shape == (2, 1, 20, 20)
