"""``kernel_matrix``: every entry by brute force, tiles, memory, stores that go on, stores that are refused, workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import stability as st
from stability import kernels
from stability.files import HOST
from stability.representations import matrix as tiles
from stability.representations.base import KernelRepresentation
from stability.representations.matrix_store import MatrixStore, representation_digest

ARCH = st.Architecture((st.Layer(2, 1.0, 2, kernels.Exponential()), st.Layer(2, 1.5, 1, kernels.ArcCosine(1))), 0.7)


class Gaussian(KernelRepresentation):
    """K(x, y) = exp(-w |x - y|^2), with a record of the calls: how many images on each side."""

    architecture = None

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self._width, self._calls = width, []

    def kernel_matrix(self, images, others=None):
        self._calls.append((len(images), None if others is None else len(others)))
        others = images if others is None else others
        flat, second = images.double().flatten(1), others.double().flatten(1)
        return torch.exp(-self._width * (flat[:, None] - second).square().sum(-1))

    def reference(self, images):
        raise NotImplementedError

    def refined(self, factor):
        raise NotImplementedError


def pictures(generator, count, size=(4, 6), channels=2):
    return torch.randn(count, channels, *size, generator=generator, dtype=torch.float64)


def gaussian(x, y):
    return torch.tensor([[torch.exp(-(a - b).square().sum()) for b in y] for a in x], dtype=torch.float64)


def contents(folder):
    """Every file of a folder with its bytes and its time."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_every_entry_is_the_kernel_of_its_pair(block, generator):
    x, y, phi = pictures(generator, 5), pictures(generator, 3), st.GramCKN(ARCH)
    matrix = st.kernel_matrix(phi, x, y, block=block)
    expected = torch.stack([phi.kernel(x, one.expand_as(x)) for one in y], dim=1)
    torch.testing.assert_close(matrix, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("block", [1, 2, 5, 9])
@pytest.mark.parametrize("make", [st.GramCKN, st.LinearGram])
def test_the_symmetric_matrix_is_the_full_one(make, block, generator):
    x, phi = pictures(generator, 5), make(ARCH)
    half, full = st.kernel_matrix(phi, x, block=block), st.kernel_matrix(phi, x, x, block=block)
    torch.testing.assert_close(half, full, rtol=1e-12, atol=1e-12)
    assert torch.equal(half, half.T)


def test_features_give_inner_products_times_the_cell_area(generator):
    x, y = pictures(generator, 5, (8, 8), 1), pictures(generator, 3, (8, 8), 1)
    arch = st.Architecture((st.Layer(3, 1.0, 2), st.Layer(2, 2.0, 2)))
    ckn = st.CKN.fit(arch, x, filters=(6, 7), generator=generator)
    features = [ckn(images.to(ckn.dtype)).double() for images in (x, y)]
    expected = 16.0 * torch.einsum("ikuv,jkuv->ij", *features)
    torch.testing.assert_close(st.kernel_matrix(ckn, x, y, block=2), expected, rtol=1e-5, atol=0)


def test_signals_have_matrices_too(generator):
    x = torch.randn(3, 2, 8, generator=generator, dtype=torch.float64)
    phi = st.GramCKN(ARCH)
    assert torch.allclose(st.kernel_matrix(phi, x, block=2).diagonal().sqrt(), phi.norm(x), rtol=1e-12)


def test_float32_is_the_rounded_matrix(generator):
    x = pictures(generator, 4)
    assert torch.equal(
        st.kernel_matrix(Gaussian(), x, dtype=torch.float32, block=3), st.kernel_matrix(Gaussian(), x, block=3).float()
    )


def test_no_images_no_entries(generator):
    x = pictures(generator, 2)
    assert st.kernel_matrix(Gaussian(), x, x[:0]).shape == (2, 0)


# --- tiles -------------------------------------------------------------------------------------------------------


def test_a_pair_is_computed_once_and_a_tile_sees_a_block_of_images_at_most(generator):
    x, phi = pictures(generator, 7), Gaussian()
    assert torch.allclose(st.kernel_matrix(phi, x, block=3), gaussian(x, x))
    assert sorted(phi._calls, key=str) == sorted([(3, None), (3, 3), (3, 1), (3, None), (3, 1), (1, None)], key=str)


def test_many_images_with_features_are_encoded_in_larger_tiles(generator, monkeypatch):
    x = pictures(generator, 80, (4, 4), 1)
    net = st.ModuleRepresentation(nn.Flatten())
    expected = x.flatten(1) @ x.flatten(1).T
    monkeypatch.setattr(tiles, "FEATURE_BYTES", 70 * 16 * 8)
    assert tiles._automatic_block(net, x) == 70
    torch.testing.assert_close(st.kernel_matrix(net, x), expected)
    assert tiles._automatic_block(Gaussian(), x) == tiles.BLOCK


def test_one_thread_inside_and_the_callers_number_afterwards(generator):
    seen = []

    class Observed(Gaussian):
        def kernel_matrix(self, images, others=None):
            seen.append(torch.get_num_threads())
            return super().kernel_matrix(images, others)

    torch.set_num_threads(2)
    st.kernel_matrix(Observed(), pictures(generator, 3), block=2)
    assert torch.get_num_threads() == 2
    assert seen == [1, 1, 1]


@pytest.mark.slow
def test_workers_compute_and_keep_the_same_bits(tmp_path, generator):
    x, phi = pictures(generator, 5), st.GramCKN(ARCH)
    expected = st.kernel_matrix(phi, x, block=2)
    assert torch.equal(st.kernel_matrix(phi, x, block=2, jobs=2, store=tmp_path), expected)
    assert torch.equal(st.kernel_matrix(phi, x, store=tmp_path), expected)


# --- stores ------------------------------------------------------------------------------------------------------


def test_a_store_goes_on_bit_by_bit_and_computes_only_what_it_lacks(tmp_path, generator):
    x, phi, folder = pictures(generator, 7), st.GramCKN(ARCH), tmp_path / "store"
    whole = st.kernel_matrix(phi, x, block=2, store=folder)
    assert torch.equal(whole, st.kernel_matrix(phi, x, block=2))
    parts = sorted((folder / "tiles").iterdir())
    assert len(parts) == 10
    for path in parts[1::3]:
        path.unlink()
    before = contents(folder)
    assert torch.equal(st.kernel_matrix(phi, x, block=2, store=folder), whole)
    after = contents(folder)
    assert len(after) == 11
    assert {path: after[path] for path in before} == before


def test_a_finished_store_is_read_and_one_entry_computed_again(tmp_path, generator):
    x, y = pictures(generator, 4), pictures(generator, 3)
    first = st.kernel_matrix(Gaussian(), x, y, block=2, store=tmp_path)
    phi = Gaussian()
    assert torch.equal(st.kernel_matrix(phi, x, y, store=tmp_path), first)  # with the block of the store
    assert phi._calls == [(1, 1)]


SLOW = """
import os, sys, time, torch, stability as st
from stability.representations.base import KernelRepresentation

class Slow(KernelRepresentation):
    architecture, calls = None, 0
    def kernel_matrix(self, images, others=None):
        Slow.calls += 1
        time.sleep(float(os.environ.get("DELAY", "0")))
        others = images if others is None else others
        return torch.exp(-torch.cdist(images.flatten(1), others.flatten(1)))
    def reference(self, images): ...
    def refined(self, factor): ...

x = torch.linspace(0, 1, 8 * 4, dtype=torch.float64).view(8, 1, 2, 2)
if __name__ == "__main__":
    from slow_kernel import Slow
    st.kernel_matrix(Slow(), x, block=1, store=sys.argv[1])
"""


def test_a_killed_run_leaves_whole_tiles_and_goes_on(tmp_path, monkeypatch):
    (tmp_path / "slow_kernel.py").write_text(SLOW)
    folder = tmp_path / "store"
    environment = {**os.environ, "DELAY": "0.05", "PYTHONPATH": str(Path(st.__file__).parent.parent)}
    process = subprocess.Popen([sys.executable, str(tmp_path / "slow_kernel.py"), str(folder)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("tiles/[!.]*"))) < 3 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    there = contents(folder)
    assert 3 <= len(there) - 1 < 36
    left_behind = folder / "tiles" / f".00007-00007.safetensors.{HOST}.{process.pid}"
    left_behind.write_bytes(b"half")
    monkeypatch.syspath_prepend(tmp_path)
    from slow_kernel import Slow, x

    resumed = st.kernel_matrix(Slow(), x, block=1, store=folder)
    assert Slow.calls == 36 - (len(there) - 1) + 1  # and one entry to see that the store is its own
    assert torch.equal(resumed, st.kernel_matrix(Slow(), x, block=1))
    assert not left_behind.exists()
    assert {path: contents(folder)[path] for path in there if path != left_behind} == there


def test_a_tile_that_cannot_be_moved_into_place_is_not_there(tmp_path, generator, monkeypatch):
    x, replace = pictures(generator, 4), os.replace

    def fail(source, target):
        if "00001-00001" in str(target):
            raise OSError("disk full")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            st.kernel_matrix(Gaussian(), x, block=2, store=tmp_path)
    there = sorted(path.stem for path in tmp_path.glob("tiles/*"))
    assert there == ["00000-00000", "00000-00001"]
    assert torch.allclose(st.kernel_matrix(Gaussian(), x, block=2, store=tmp_path), gaussian(x, x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda call: {**call, "representation": st.LinearGram(ARCH)}, "another representation's matrix"),
        (
            lambda call: {**call, "representation": st.GramCKN(ARCH.replace("layers.0.pooling_scale", 1.1))},
            "another representation's matrix",
        ),
        (lambda call: {**call, "images": call["images"] * 1.5}, "matrix of other images"),
        (lambda call: {**call, "images": call["images"][:3]}, "matrix of other images"),
        (lambda call: {**call, "others": None}, "other second images"),
        (lambda call: {**call, "dtype": torch.float32}, "dtype must be that of the store .*float64"),
        (lambda call: {**call, "block": 3}, "block must be that of the store"),
    ],
)
def test_a_store_of_something_else_is_refused_and_left_as_it_is(change, message, tmp_path, generator):
    call = {"representation": st.GramCKN(ARCH), "images": pictures(generator, 4), "others": pictures(generator, 2)}
    call |= {"dtype": torch.float64, "block": 2, "store": tmp_path}
    st.kernel_matrix(**call)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        st.kernel_matrix(**change(call))
    assert contents(tmp_path) == before


def test_what_a_representation_keeps_to_itself_is_found_by_computing_again(tmp_path, generator):
    x = pictures(generator, 4)
    st.kernel_matrix(Gaussian(0.01), x, block=2, store=tmp_path)
    assert representation_digest(Gaussian(0.01)) == representation_digest(Gaussian(0.0101))
    with pytest.raises(ValueError, match=r"another version of the representation"):
        st.kernel_matrix(Gaussian(0.0101), x, block=2, store=tmp_path)


def test_other_weights_layers_and_settings_are_other_representations():
    def net(seed, bias=0.0, stride=1, **options):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Conv2d(1, 2, 3, stride=stride), nn.ReLU(), nn.Flatten())
        module[0].bias.data.fill_(bias)
        return representation_digest(st.ModuleRepresentation(module, **options))

    with torch.random.fork_rng():
        found = [
            net(0), net(1), net(0, bias=0.1), net(0, stride=2), net(0, layer="0"), net(0, mean=0.5), net(0, std=0.5),
            representation_digest(st.GramCKN(ARCH)), representation_digest(st.GramCKN(ARCH, refinement=2)),
        ]  # fmt: skip
        assert len(set(found)) == len(found)
        assert net(0) == found[0]


def test_using_a_representation_does_not_change_what_it_is(generator):
    phi = st.GramCKN(ARCH)
    before = representation_digest(phi)
    phi.distance(pictures(generator, 2), pictures(generator, 2))
    assert representation_digest(phi) == before


@pytest.mark.parametrize("damage", ["torn", "changed", "moved", "short"])
def test_a_damaged_tile_is_told_and_not_used(damage, tmp_path, generator):
    x = pictures(generator, 4)
    st.kernel_matrix(Gaussian(), x, block=2, store=tmp_path / "a")
    path = tmp_path / "a" / "tiles" / "00000-00001.safetensors"
    data = path.read_bytes()
    if damage == "torn":
        path.write_bytes(data[:-8])
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "short":
        store = MatrixStore(tmp_path / "a")
        store.open(json.loads((tmp_path / "a" / "matrix.json").read_text()))
        path.unlink()
        store.write((0, 1), torch.zeros(1, 2, dtype=torch.float64))
    else:
        st.kernel_matrix(Gaussian(), x + 1, block=2, store=tmp_path / "b")
        path.write_bytes((tmp_path / "b" / "tiles" / path.name).read_bytes())
    with pytest.raises(ValueError, match=r"tile (00000-00001|\(0, 1\)).* remove it"):
        st.kernel_matrix(Gaussian(), x, block=2, store=tmp_path / "a")


def test_foreign_folders_and_headers_are_refused(tmp_path, generator):
    x = pictures(generator, 2)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="new or empty folder"):
        st.kernel_matrix(Gaussian(), x, store=tmp_path)
    with pytest.raises(ValueError, match="new or empty folder"):
        st.kernel_matrix(Gaussian(), x, store=tmp_path / "notes.txt")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "matrix.json").write_text("{")
    with pytest.raises(ValueError, match="unreadable"):
        st.kernel_matrix(Gaussian(), x, store=tmp_path / "store")
    (tmp_path / "store" / "matrix.json").write_text(json.dumps({"schema": 0}))
    with pytest.raises(ValueError, match="another version of this package"):
        st.kernel_matrix(Gaussian(), x, store=tmp_path / "store")


# --- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"representation": nn.Identity()}, "representation must have a kernel"),
        ({"images": torch.zeros(2, 4, 4, 4, 4)}, "add the batch axis"),
        ({"images": torch.full((2, 1, 4, 4), torch.nan)}, "finite"),
        ({"others": torch.zeros(2, 1, 4, 5)}, "bring both sets to one size"),
        ({"block": 0}, "block must be an integer"),
        ({"dtype": torch.float16}, "dtype must be"),
        ({"jobs": 0}, "jobs must be"),
        ({"jobs": True}, "jobs must be"),
    ],
)
def test_wrong_arguments_are_told_before_any_work(call, message, tmp_path):
    phi = Gaussian()
    with pytest.raises(ValueError, match=message):
        st.kernel_matrix(**{"representation": phi, "images": torch.zeros(2, 1, 4, 4), "store": tmp_path / "s", **call})
    assert phi._calls == []
    assert not (tmp_path / "s").exists()


def test_progress_counts_pairs(generator, capsys):
    st.kernel_matrix(Gaussian(), pictures(generator, 3), block=2, progress=True)
    st.kernel_matrix(Gaussian(), pictures(generator, 3), block=2)
    assert capsys.readouterr().out == ""
