"""Image sets: prepared, band-limited, labelled, refused with the nearest name."""

import gzip

import numpy as np
import pytest
import torch

import stability as st
from stability.images import registry
from stability.images.formats import read_idx


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("fashion", (32, 32), 1),
        ("fashion", (16, 20), 1),
        ("fashion", (40,), 1),
        ("photographs", (24, 32), 3),
        ("photographs", (33,), 1),
        ("blobs", (32, 32), 1),
        ("blobs", (32,), 1),
    ],
)
def test_loaded_images_are_band_limited_float64(name, size, channels):
    x = st.images.load(name, count=3, size=size, channels=channels)
    assert x.shape == (3, channels, *size)
    assert x.dtype == torch.float64
    assert torch.allclose(st.grid.band_limit(x), x, atol=1e-14)
    assert -0.2 < x.min() < x.max() < 5
    assert len({round(float(v), 12) for v in x.flatten(1).norm(dim=1)}) == 3


def test_loading_twice_gives_the_same_images():
    for name in ("fashion", "blobs"):
        assert torch.equal(st.images.load(name, count=2), st.images.load(name, count=2))


def test_fashion_has_two_hundred_labelled_images_with_alternating_classes():
    data = st.images.dataset("fashion")
    assert data.images.shape == (200, 1, 28, 28)
    assert (data.images.min(), data.images.max()) == (0.0, 1.0)
    assert data.labels.view(20, 10).tolist() == [list(range(10))] * 20
    assert len(data.names) == 10
    assert "MIT" in data.licence
    assert data.source == "shipped"


def test_photographs_and_blobs_are_data_sets_too():
    photographs = st.images.dataset("photographs")
    assert photographs.images.shape[1:] == (3, 256, 256)
    assert len(photographs.names) == len(photographs.labels)
    assert st.images.dataset("blobs").images.shape[1:] == (1, 32, 32)


def test_margin_fades_to_zero_and_the_inside_stays():
    x = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    faded = st.images.fade(x, 4)
    assert torch.equal(faded[..., 4:12, 4:12], x[..., 4:12, 4:12])
    assert faded[..., 0, 8].item() == pytest.approx(np.sin(np.pi / 16) ** 2)
    assert torch.equal(st.images.fade(x, 0), x)
    assert torch.equal(
        st.images.fade(x, 3)[0, 0, 8], st.images.fade(torch.ones(1, 1, 16, dtype=torch.float64), 3)[0, 0]
    )


def test_embedding_centres_small_pictures_and_shrinks_large_ones(generator):
    x = torch.rand(1, 1, 10, 10, generator=generator, dtype=torch.float64)
    y = st.images.embed(x, (15, 15), margin=0)  # odd size: the band limit changes nothing
    assert torch.equal(y[..., 2:12, 2:12], x)
    assert y.abs().sum() == pytest.approx(float(x.sum()))
    shrunk = st.images.embed(torch.ones(1, 1, 60, 30, dtype=torch.float64), (15, 15), margin=0)
    assert shrunk.sum().item() == pytest.approx(15 * 8, rel=0.1)  # 60 x 30 becomes 15 x 8


def test_blobs_equal_their_continuous_form(generator):
    blobs = st.images.Blobs.sample((32, 32), count=2, generator=generator)
    x = blobs.images()
    assert torch.allclose(st.grid.band_limit(x), x, atol=1e-10)
    u = torch.rand(50, 2, generator=generator, dtype=torch.float64) * 32
    assert torch.allclose(blobs.evaluate(u), blobs.evaluate(u + 32.0), rtol=1e-12)
    moved = st.BandLimitedWarp(oversample=1)(x, st.Translation((1.3, -0.4), size=(32, 32)))
    truth = blobs.evaluate(st.grid.coordinates((32, 32)).flatten(0, -2) - torch.tensor([1.3, -0.4]))
    assert torch.allclose(moved.flatten(1), truth, atol=1e-9)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_users_own_files_are_read(tmp_path, monkeypatch):
    pictures = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", pictures)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([4, 4, 1]))
    data = st.images.dataset("fashion", root=tmp_path)
    assert data.labels.tolist() == [1, 4, 4]
    assert torch.equal((data.images[0, 0] * 255).round().long(), torch.from_numpy(pictures[2]))
    assert data.source == str(tmp_path)
    monkeypatch.setenv("STABILITY_DATA", str(tmp_path))
    assert len(st.images.dataset("fashion").images) == 3
    assert st.images.load("fashion", count=3).shape == (3, 1, 32, 32)


def test_torn_files_are_told(tmp_path):
    write_idx(tmp_path / "a", np.zeros((2, 3)))
    (tmp_path / "torn").write_bytes((tmp_path / "a").read_bytes()[:-1])
    with pytest.raises(ValueError, match="must hold 6 bytes, got 5"):
        read_idx(tmp_path / "torn")
    (tmp_path / "other").write_bytes(b"PNG and more")
    with pytest.raises(ValueError, match="IDX file"):
        read_idx(tmp_path / "other")
    with pytest.raises(ValueError, match="root must hold"):
        st.images.dataset("fashion", root=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fashoin"}, "did you mean 'fashion'"),
        ({"name": "fashion", "count": 201}, "at most 200"),
        ({"name": "photographs", "count": 99}, "at most"),
        ({"name": "fashion", "count": 0}, "count must be"),
        ({"name": "fashion", "channels": 3}, "channels"),
        ({"name": "fashion", "size": (32, 32, 32)}, "size must be"),
        ({"name": "fashion", "margin": 17}, "margin"),
    ],
)
def test_wrong_requests_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        st.images.load(**arguments)
    with pytest.raises(ValueError, match="spatial axes"):
        st.images.embed(torch.zeros(1, 28, 28, dtype=torch.float64), (32, 32))


def test_without_scikit_image_the_message_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "skimage.data", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"pip install .*\[images\]"):
        registry.load("photographs", count=1)
