"""What is in a store: how far it is, whether it is whole, its table as one file."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stability.files import replacing
from stability.names import unknown
from stability.sweeps.chunks import Chunk, Cut, needs_fit
from stability.sweeps.result import ROWS, read_rows, read_run
from stability.sweeps.store import Store, TornPartError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SAME = 1e-9
"""Relative difference up to which numbers that were computed twice count as the same."""


def status(store: Store) -> list[str]:
    """How far a store is, in lines. Reads no part."""
    spec = store.spec()
    cut = Cut(spec)
    missing = store.missing(cut.chunks)
    cells = [chunk for chunk in cut.chunks if not chunk.pairs]
    absent = {chunk.address for chunk in missing}
    learnt = [store.state(cut.fit_address(model)).is_file() for model in cut.models if needs_fit(model.chosen)]
    lines = [
        f"spec      {spec.hash[:12]}",
        f"chunks    {len(cut.chunks) - len(missing)} of {len(cut.chunks)}",
        f"cells     {sum(chunk.cells for chunk in cells if chunk.address not in absent)} of "
        f"{sum(chunk.cells for chunk in cells)}",
    ]
    if learnt:
        lines.append(f"models    {sum(learnt)} of {len(learnt)} learnt")
    seconds = sum(cut.seconds(chunk) for chunk in missing)
    if missing:
        lines.append(f"left      about {duration(seconds)} on one core")
    strangers = store.strangers(cut)
    if strangers:
        lines.append(f"others    {len(strangers)} parts of another version of the code, or of another spec; not used")
    table = "not yet; stability run writes it when all chunks are there"
    if not missing:
        table = "written" if store.table_is_whole else "missing or changed; stability run writes it again"
    lines.append(f"table     {table}")
    return lines


def verify(store: Store, *, recompute: int = 0) -> tuple[list[str], list[str]]:
    """What is wrong with a store, and what was looked at, in lines.

    Args:
        store: the store.
        recompute: how many chunks are computed again, spread over the store, and compared.

    Returns:
        Faults (none: the store is sound) and findings.
    """
    spec = store.spec()
    faults, lines, cut = [], [], Cut(spec)
    if store.entries().get("hash") != spec.hash:
        faults.append(
            "spec.json must hold the hash of its spec, got another one; it was changed, or written by another version"
        )
    whole: dict[str, pa.Table] = {}
    missing = {chunk.address for chunk in store.missing(cut.chunks)}
    for chunk in cut.chunks:
        if chunk.address in missing:
            continue
        try:
            whole[chunk.address] = store.read(chunk)
        except TornPartError as error:
            faults.append(f"{error}; stability run computes it again")
    for model in cut.models:
        address = cut.fit_address(model)
        if needs_fit(model.chosen) and store.state(address).is_file():
            fault = store.state_fault(address)
            faults += [f"{fault}; stability run learns it again"] if fault else []
    lines.append(f"parts     {len(whole)} whole, {len(missing)} missing, {len(faults)} faults")
    if not missing and not faults:
        faults += _table_faults(store, cut, whole)
        lines.append("table     compared with the parts")
    if recompute:
        chosen = random.Random(spec.hash).sample(
            [c for c in cut.chunks if c.address in whole], min(recompute, len(whole))
        )
        faults += _recomputed(cut, store, chosen, whole)
        lines.append(f"numbers   {len(chosen)} chunks computed again")
    if missing:
        lines.append("not complete: stability run goes on")
    return faults, lines


def _table_faults(store: Store, cut: Cut, whole: "Mapping[str, pa.Table]") -> list[str]:
    from stability.sweeps.table import assemble

    if not store.finished:
        return [f"{ROWS} and run.json must be there once all parts are, got none; stability run writes them"]
    try:
        rows, record = read_rows(store.folder), read_run(store.folder)
    except (OSError, ValueError) as error:
        return [f"{ROWS} and run.json must be readable, got {' '.join(str(error).split())[:80]}; remove them and run"]
    if record.get("hash") != cut.spec.hash:
        return ["run.json must belong to the spec, got another hash; remove it and run again"]
    difference = first_difference(rows, assemble(cut, whole))
    return (
        [f"{ROWS} must hold what the parts hold, got a difference in {difference}; remove it and run"]
        if difference
        else []
    )


def _recomputed(cut: Cut, store: Store, chosen: list[Chunk], whole: "Mapping[str, pa.Table]") -> list[str]:
    from stability.sweeps.run import recompute

    faults = []
    for chunk, table in zip(chosen, recompute(cut, store, chosen), strict=True):
        difference = first_difference(whole[chunk.address].to_pandas(), table.to_pandas())
        if difference:
            faults.append(f"part {chunk.address[:12]} must hold what its chunk gives, got a difference in {difference}")
    return faults


def first_difference(one: "pd.DataFrame", other: "pd.DataFrame") -> str | None:
    """The first column in which two tables differ by more than ``SAME``; None if they are the same but for times."""
    from pandas.testing import assert_frame_equal

    times = ["seconds"]
    try:
        assert_frame_equal(
            one.drop(columns=times, errors="ignore"),
            other.drop(columns=times, errors="ignore"),
            check_dtype=False,
            rtol=SAME,
            atol=1e-12,
        )
    except AssertionError as error:
        words = str(error).split('"')
        return repr(words[1]) if len(words) > 1 else "its shape"
    return None


def export(store: Store, out: Path, *, partial: bool = False) -> int:
    """The table of a store as one file; returns the number of rows.

    Args:
        store: the store.
        out: .csv, .json (records) or .parquet.
        partial: the rows that are there, of a store that is not complete.

    Raises:
        ValueError: for another ending, or a store that is not complete.
    """
    writers: dict[str, Callable[[pd.DataFrame, Path], object]] = {
        ".csv": lambda frame, path: frame.to_csv(path, index=False),
        ".json": lambda frame, path: frame.to_json(path, orient="records", indent=1, double_precision=15),
        ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    }
    if out.suffix not in writers:
        raise ValueError(unknown("the ending of the file", out.suffix, writers))
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out must be in a folder that is there, got {str(out)!r}; make the folder first")
    from stability.sweeps.table import numeric

    frame = table(store, partial=partial)
    if out.suffix == ".parquet":
        frame = numeric(frame)
    with replacing(out) as temporary:
        writers[out.suffix](frame, temporary)
    return len(frame)


def table(store: Store, *, partial: bool = False) -> "pd.DataFrame":
    """The rows of a store.

    Raises:
        ValueError: if it is not complete and ``partial`` is not set.
    """
    from stability.sweeps.table import assemble

    spec = store.spec()
    cut = Cut(spec)
    missing = {chunk.address for chunk in store.missing(cut.chunks)}
    if missing and not partial:
        raise ValueError(
            f"store must be complete, got {len(cut.chunks) - len(missing)} of {len(cut.chunks)} chunks; "
            "run it again, or pass --partial"
        )
    if not missing and store.table_is_whole:
        return read_rows(store.folder)
    found = {chunk.address: store.read(chunk) for chunk in cut.chunks if chunk.address not in missing}
    return assemble(cut, found)


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(0.4), duration(75), duration(7300)
    ('1 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(1, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
