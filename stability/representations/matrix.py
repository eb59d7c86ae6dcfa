"""Kernel matrices between two sets of images, tile by tile."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import joblib
import torch
from joblib.externals.loky.process_executor import BrokenProcessPool
from torch import Tensor
from tqdm.auto import tqdm

from stability.grid import check_images
from stability.representations.base import KernelRepresentation
from stability.representations.matrix_store import SCHEMA, MatrixStore, representation_digest, tensor_digest
from stability.representations.pairs import PairRepresentation
from stability.workers import one_thread, worker_count

BLOCK = 64
"""Images along a side of a tile: what belongs to one image alone is computed anew for every tile, 3 % of its pairs."""
FEATURE_BYTES = 2**27
"""Features of one side of a tile, for representations that have features: larger tiles encode an image less often."""
LARGEST_BLOCK = 4096
"""A tile of 128 MB."""
AGREEMENT, ROUGH_AGREEMENT = 1e-9, 1e-4
"""How far an entry that is computed again may be from the store's, over the tile's largest; in float32 the second."""


@runtime_checkable
class HasVectors(Protocol):
    """A representation whose features can be written down."""

    def vectors(self, images: Tensor) -> Tensor:
        """Phi(x) as rows ``(B, K)``."""


@dataclass(frozen=True)
class Tile:
    """Rows i and columns j of a matrix, as the number of its block along each side."""

    place: tuple[int, int]
    rows: slice
    columns: slice

    @property
    def pairs(self) -> int:
        """Number of entries."""
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)


def kernel_matrix(
    representation: KernelRepresentation,
    images: Tensor,
    others: Tensor | None = None,
    *,
    block: int | None = None,
    store: str | Path | None = None,
    dtype: torch.dtype = torch.float64,
    progress: bool = False,
    jobs: int = 1,
) -> Tensor:
    """K(x_i, y_j) = <Phi(x_i), Phi(y_j)> for all pairs.

    Computed in tiles of block x block pairs, each with what it needs of its 2 block images (patches and patch norms, or
    features) and no more: memory is that of the result and of one tile per process. Without ``others`` tiles below the
    diagonal are transposes of those above.

    With a ``store`` every finished tile is kept on disk. A run that was killed goes on where it stopped, to the same
    numbers bit by bit; a store of another representation, other images or another dtype is refused.

    Args:
        representation: one that has a kernel (``GramCKN``, ``LinearGram``) or features (``CKN``, any module).
        images: ``(Bx, C, *size)``.
        others: ``(By, C, *size)``; None: the symmetric matrix of the images with themselves.
        block: images along a side of a tile; None: 64, or what keeps features below 128 MB.
        store: folder of finished tiles: new, empty, or begun with the same matrix; None: nothing is written.
        dtype: float64, or float32 for half of the memory and disk; exact kernels are then evaluated in float32 as well,
            in little more than half the time, others in their own dtype. Not for distances.
        progress: show a progress bar on stderr.
        jobs: worker processes, each with one thread; -1: one per core.

    Returns:
        Tensor ``(Bx, By)``, dtype, without gradient; positive semi-definite up to round-off if ``others`` is None.

    Raises:
        ValueError: before any long work, for images that do not fit each other or a store that holds something else.
        RuntimeError: if a worker process was killed; finished tiles of a store stay.

    >>> from stability.architecture import Architecture
    >>> from stability.representations.gram import GramCKN
    >>> x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> gram = GramCKN(Architecture.dyadic(depth=2))
    >>> matrix = kernel_matrix(gram, x, block=2)
    >>> torch.allclose(matrix.diagonal().sqrt(), gram.norm(x)), torch.equal(matrix, matrix.T)
    (True, True)
    """
    workers = _check(representation, images, others, block, dtype, jobs)
    opened = None if store is None else MatrixStore(store)
    columns = images if others is None else others
    if opened is not None and block is None:
        block = opened.entries().get("block")
    block = block or _automatic_block(representation, images)
    if opened is not None:
        opened.open(_header(representation, images, others, block, dtype))
    tiles = list(_tiles(len(images), len(columns), block, symmetric=others is None))
    there = [tile for tile in tiles if opened is not None and tile.place in opened]
    matrix = torch.empty(len(images), len(columns), dtype=dtype, device=images.device)
    with tqdm(total=sum(t.pairs for t in tiles), unit="pair", disable=None if progress else True, leave=False) as bar:
        for tile in there:
            assert opened is not None
            values = opened.read(tile.place)
            if values.numel() != tile.pairs:
                raise ValueError(
                    f"tile {tile.place} must hold {tile.pairs} numbers, got {values.numel()}; remove it from the store"
                )
            if tile is there[0]:
                _check_agreement(representation, images, columns, tile, values)
            _fill(matrix, tile, values, symmetric=others is None)
            bar.update(tile.pairs)
        found = {tile.place for tile in there}
        left = [tile for tile in tiles if tile.place not in found]
        for tile, values in _computed(representation, images, others, left, opened, dtype, workers):
            _fill(matrix, tile, values, symmetric=others is None)
            bar.update(tile.pairs)
    return matrix


def _check(
    representation: KernelRepresentation,
    images: Tensor,
    others: Tensor | None,
    block: int | None,
    dtype: torch.dtype,
    jobs: int,
) -> int:
    """The number of workers, if all arguments are what they should be."""
    if not isinstance(representation, KernelRepresentation):
        kind = type(representation).__name__
        raise ValueError(f"representation must have a kernel, got {kind}; use GramCKN, LinearGram, CKN or a module")
    for given in (images, others):
        if given is not None and check_images(given).ndim not in (3, 4):
            raise ValueError(f"images must have shape (B, C, *size), got {tuple(given.shape)}; add the batch axis")
    if others is not None and others.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"others must have images of shape {tuple(images.shape[1:])}, got {tuple(others.shape[1:])}; "
            "bring both sets to one size"
        )
    if block is not None and (isinstance(block, bool) or not isinstance(block, int) or block < 1):
        raise ValueError(f"block must be an integer >= 1, got {block!r}; leave it out")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}; use torch.float64")
    workers = worker_count(jobs)
    if workers > 1 and images.device.type != "cpu":
        raise ValueError(f"jobs must be 1 for images on {images.device}, got {jobs}; processes are for the CPU")
    return workers


def _automatic_block(representation: KernelRepresentation, images: Tensor) -> int:
    """64; for representations with features as many images as ``FEATURE_BYTES`` hold, if more."""
    if not isinstance(representation, HasVectors) or len(images) <= BLOCK:
        return BLOCK
    with one_thread(), torch.no_grad():
        one = representation.vectors(images[:1])
    return min(max(BLOCK, FEATURE_BYTES // max(1, one.numel() * one.element_size())), LARGEST_BLOCK)


def _header(
    representation: KernelRepresentation, images: Tensor, others: Tensor | None, block: int, dtype: torch.dtype
) -> dict[str, object]:
    """What the matrix is the matrix of."""
    return {
        "schema": SCHEMA,
        "representation": representation_digest(representation),
        "images": tensor_digest(images),
        "others": None if others is None else tensor_digest(others),
        "shape": [len(images), len(images if others is None else others)],
        "dtype": str(dtype).removeprefix("torch."),
        "block": block,
    }


def _tiles(rows: int, columns: int, block: int, *, symmetric: bool) -> Iterator[Tile]:
    """All tiles, row by row; of a symmetric matrix those on and above the diagonal."""
    for i in range(math.ceil(rows / block)):
        for j in range(i if symmetric else 0, math.ceil(columns / block)):
            yield Tile((i, j), _part(i, block, rows), _part(j, block, columns))


def _part(index: int, block: int, count: int) -> slice:
    return slice(index * block, min((index + 1) * block, count))


def _fill(matrix: Tensor, tile: Tile, values: Tensor, *, symmetric: bool) -> None:
    """A tile in its place, and its transpose in the mirrored one."""
    if symmetric and tile.place[0] == tile.place[1]:
        values = values.triu() + values.triu(1).T  # products of features are symmetric up to round-off only
    matrix[tile.rows, tile.columns] = values.to(matrix.device)
    if symmetric and tile.place[0] != tile.place[1]:
        matrix[tile.columns, tile.rows] = values.T.to(matrix.device)


def _computed(
    representation: KernelRepresentation,
    images: Tensor,
    others: Tensor | None,
    tiles: Sequence[Tile],
    store: MatrixStore | None,
    dtype: torch.dtype,
    workers: int,
) -> Iterator[tuple[Tile, Tensor]]:
    """Tiles with their values, in any order; only as many images travel to the workers as they are busy with."""
    if not tiles:
        return
    calls = (
        joblib.delayed(_work)(
            representation,
            tile,
            images[tile.rows].detach().clone(),  # a view would travel with all of its storage
            _second(images, others, tile),
            store,
            dtype,
        )
        for tile in tiles
    )
    workers = min(workers, len(tiles))
    backend, _ = joblib.parallel.get_active_backend()
    streams = backend.supports_return_generator or workers == 1
    try:
        yield from joblib.Parallel(
            n_jobs=workers,
            return_as="generator_unordered" if streams else "list",
            batch_size=1,
            pre_dispatch="2*n_jobs",
        )(calls)
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker was killed (out of memory?): use fewer jobs or a smaller block; with a store, finished tiles stay"
        ) from None


def _second(images: Tensor, others: Tensor | None, tile: Tile) -> Tensor | None:
    """The second images of a tile; None on the diagonal of a symmetric matrix."""
    if others is None and tile.place[0] == tile.place[1]:
        return None
    return (images if others is None else others)[tile.columns].detach().clone()


def _work(
    representation: KernelRepresentation,
    tile: Tile,
    left: Tensor,
    right: Tensor | None,
    store: MatrixStore | None,
    dtype: torch.dtype,
) -> tuple[Tile, Tensor]:
    """One tile, computed with one thread and kept in the store."""
    with one_thread(), torch.no_grad():
        values = _values(representation, left, right, dtype)
    if store is not None:
        store.write(tile.place, values)
    return tile, values


def _values(representation: KernelRepresentation, left: Tensor, right: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The entries of one tile; exact kernels in the arithmetic of the dtype."""
    if isinstance(representation, PairRepresentation):
        return representation.kernel_matrix(left, right, dtype=dtype)
    return representation.kernel_matrix(left, right).to(dtype)


def _check_agreement(
    representation: KernelRepresentation, images: Tensor, columns: Tensor, tile: Tile, values: Tensor
) -> None:
    """Compute one entry of a store again: what a representation does not state of itself may have changed.

    Raises:
        ValueError: if it is another number.
    """
    i, j = tile.rows.start, tile.columns.stop - 1
    with one_thread(), torch.no_grad():
        again = _values(representation, images[i : i + 1], columns[j : j + 1], values.dtype).to(values)[0, 0]
    exact = values.dtype == torch.float64 and not isinstance(representation, HasVectors)  # networks are in float32
    if not (again - values[0, -1]).abs() <= (AGREEMENT if exact else ROUGH_AGREEMENT) * values.abs().max():
        raise ValueError(
            f"store must hold K(x_{i}, y_{j}) = {float(again):.9g}, got {float(values[0, -1]):.9g}: it was computed "
            "by another version of the representation; choose another folder"
        )
