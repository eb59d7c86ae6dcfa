"""From the parts of a sweep to its table, in memory and on disk. No torch."""

import json
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from stability.sweeps.chunks import ORDER, PAIR, Cut
from stability.sweeps.result import ROWS, RUN, provenance, told
from stability.sweeps.store import Store, file_digest

PAIRS = "distance_over_pairs"
SEARCHED_WORDS = ("status_largest_found", "status_supremum", "scope_supremum", "objective", "field_file")
"""Columns of words that rows without a search lack."""


def assemble(cut: Cut, tables: Mapping[str, pa.Table]) -> pd.DataFrame:
    """The rows of a sweep in the order images, fields, representations, layers.

    Args:
        cut: the sweep.
        tables: address -> what was found; chunks that are not among them have no rows.

    Raises:
        ValueError: if there is no row at all.
    """
    found = [tables[chunk.address] for chunk in cut.chunks if not chunk.pairs and chunk.address in tables]
    if not found:
        raise ValueError("store must hold at least one chunk of rows, got none yet; let stability run go on")
    frame = pa.concat_tables(found, promote_options="permissive").to_pandas()
    for name in SEARCHED_WORDS:
        if name in frame:
            frame[name] = frame[name].fillna("").astype(object)
    medians: dict[tuple[int, int], float] = {}
    for chunk in cut.chunks:
        if chunk.pairs and chunk.address in tables:
            columns = tables[chunk.address].to_pydict()
            medians |= dict(zip(zip(columns["_model"], columns["_layer"], strict=True), columns[PAIR], strict=True))
    keys = zip(frame["_model"], frame["_layer"], strict=True)
    pair = pd.Series([medians.get(key, math.nan) for key in keys], index=frame.index, dtype=float)
    ratio = frame["distance"] / pair.where(pair > 0)
    frame.insert(frame.columns.get_loc("distance_over_representation_norm") + 1, PAIRS, ratio)
    frame = frame.sort_values(list(ORDER), kind="stable").drop(columns=list(ORDER)).reset_index(drop=True)
    whole = ["patch_size", "subsampling", *(path for path, values in cut.spec.vary.items() if _integers(values))]
    whole = [name for name in whole if name != "antialiasing"]
    for name in whole:
        if frame[name].notna().all():
            frame[name] = frame[name].astype(np.int64)
    return told(frame)


def numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as parquet can hold it: "undefined" in the column ``floor`` is NaN there and comes back on reading."""
    return frame.assign(floor=pd.to_numeric(frame["floor"], errors="coerce"))


def finish(store: Store, cut: Cut) -> pd.DataFrame:
    """Write the whole table of a store that has all its parts, and what is needed to repeat it.

    Raises:
        TornPartError: if a part is damaged.
    """
    frame = assemble(cut, {chunk.address: store.read(chunk) for chunk in cut.chunks})
    with store.replacing(ROWS) as temporary:
        numeric(frame).to_parquet(temporary, index=False)
    record = provenance(cut.spec, len(frame)) | {
        name: value for name, value in store.entries().items() if name not in ("spec", "hash")
    }
    record |= {"chunks": len(cut.chunks), "rows_sha256": file_digest(store.folder / ROWS)}
    with store.replacing(RUN) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")
    return frame


def _integers(values: tuple[object, ...]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
