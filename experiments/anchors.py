"""Nyström distances converge to the exact ones as anchors are added: no knob of the theorem moves.

The bound is the same for every number of anchors, because a projection does not expand.
"""

import pandas as pd
from common import Experiment

KEYS = ["image", "family", "field_seed", "asked_displacement_norm", "front_end"]


def error(rows: pd.DataFrame) -> pd.DataFrame:
    """|d_finite - d_exact| / d_exact over images, fields and sizes: median and 90 %, by number of anchors."""
    exact = rows[rows["representation"] == "gram"].set_index(KEYS)["distance"]
    finite = rows[rows["representation"] == "ckn"].set_index(KEYS)
    apart = (finite["distance"] / exact.reindex(finite.index) - 1).abs()
    found = pd.DataFrame({"filters": finite["filters"], "apart": apart, "energy": finite["captured_energy"]})
    groups = found.reset_index().groupby(["front_end", "filters"])
    table = groups["apart"].quantile([0.5, 0.9]).unstack().set_axis(["median", "90 %"], axis=1)
    table["captured_energy"] = groups["energy"].median()
    order = [int(text.split("-")[0]) for text in table.index.get_level_values("filters")]
    return table.assign(first=order).sort_values(["front_end", "first"]).drop(columns="first").reset_index()


EXPERIMENT = Experiment("anchors", None, error)
run, draw = EXPERIMENT.run, EXPERIMENT.draw

if __name__ == "__main__":
    EXPERIMENT.main()
