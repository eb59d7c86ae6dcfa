"""The interactive chart of a page. Altair and vl-convert are optional and are imported here only, when it is drawn."""

import importlib
import json
from typing import Any

import numpy as np

from stability.plots.reading import CKN, DISTANCE, FIELD, LINEAR, PAIRS, Run, input_name, measured, of_sweep

INSTALL = '.venv/bin/pip install -c constraints.txt -e ".[report]"'
NAMES = {CKN: "exact CKN", LINEAR: "linear kernel"}
COLORS = {"exact CKN": "#0072B2", "linear kernel": "#D55E00"}
SHAPES = {FIELD["translation"]: "circle", FIELD["fourier"]: "square"}
"""The marks of the figures."""
COLUMNS = {
    DISTANCE: "distance", PAIRS: "in_pairs", "bound_closed_form": "bound", "trivial": "trivial",
    "displacement_norm": "displacement", "jacobian_norm": "jacobian", "status_closed_form": "status",
    "asked_displacement_norm": "asked", "image": "image", "field_seed": "field",
}  # fmt: skip
WIDTH, HEIGHT = 780, 400


def records(run: Run) -> list[dict[str, Any]]:
    """The rows of the sweep "curves" as the chart needs them: short names, words for inputs and families."""
    rows = measured(of_sweep(run, "curves"))
    rows = rows[rows[DISTANCE] > 0]
    table = rows[list(COLUMNS)].rename(columns=COLUMNS)
    numbers = table.select_dtypes("float").columns
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.4g}"))
    table = table.assign(
        family=[FIELD.get(name, name) for name in rows["family"]],
        prepared=[input_name(name) for name in rows["front_end"]],  # "input" is a word of Vega's bindings
        representation=[NAMES.get(name, name) for name in rows["representation"]],
        bound=table["bound"].where(np.isfinite(table["bound"])),
    )
    table = table.assign(group=table["family"] + ", " + table["representation"])
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found


def interactive(run: Run) -> str:
    """An HTML fragment with its scripts inlined: one point per row, three filters, the row on hovering.

    Args:
        run: needs the sweep "curves".

    Raises:
        ImportError: if altair or vl-convert is missing.
    """
    import altair

    importlib.import_module("vl_convert")  # without it the scripts cannot be inlined

    data = records(run)
    filters = []
    for column, words in (("family", "field"), ("prepared", "input"), ("representation", "representation")):
        values = sorted({row[column] for row in data})
        choices: list[Any] = [None, *values]
        menu = altair.binding_select(options=choices, labels=["all", *values], name=f"{words} ")
        choice = altair.selection_point(fields=[column], bind=menu, name=f"chosen_{column}")
        filters.append(choice)
    names = sorted({row["representation"] for row in data})
    families = sorted({row["family"] for row in data})
    chart = (
        altair.Chart(altair.InlineData(values=data))
        .mark_point(filled=True, size=34, opacity=0.45)
        .encode(
            x=altair.X("asked:O", title="‖τ‖ (px)", axis=altair.Axis(labelAngle=0)),
            xOffset=altair.XOffset("group:N"),
            y=altair.Y("distance:Q", scale=altair.Scale(type="log"), title="‖Φ(Lτ x) − Φ(x)‖ / ‖x‖"),
            color=altair.Color(
                "representation:N",
                scale=altair.Scale(domain=names, range=[COLORS.get(name, "#666666") for name in names]),
                legend=altair.Legend(orient="bottom", title=None),
            ),
            shape=altair.Shape(
                "family:N",
                scale=altair.Scale(domain=families, range=[SHAPES.get(name, "triangle-up") for name in families]),
                legend=altair.Legend(orient="bottom", title=None),
            ),
            tooltip=[
                altair.Tooltip(f"{name}:{kind}")
                for name, kind in (
                    *((name, "N") for name in ("representation", "family", "prepared", "image", "field")),
                    *((name, "Q") for name in ("displacement", "jacobian", "distance", "in_pairs", "bound", "trivial")),
                    ("status", "N"),
                )
            ],
        )
        .add_params(*filters)
        .properties(width=WIDTH, height=HEIGHT)
    )
    for choice in filters:
        chart = chart.transform_filter(choice)
    html = chart.to_html(
        inline=True, fullhtml=False, output_div="rows-chart", embed_options={"actions": False, "renderer": "svg"}
    )
    return str(html)
