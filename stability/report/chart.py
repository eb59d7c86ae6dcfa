"""The interactive chart of a page. Altair and vl-convert are optional and are imported here only, when it is drawn."""

import importlib
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from stability.plots.architectures import with_settings
from stability.plots.reading import DISTANCE, PAIRS, Run, input_name, is_quickstart, measured, part
from stability.plots.series import DEFORMATION, FIELD, SERIES, SETTING, deformations, series_of
from stability.plots.styles import marks

INSTALL = '.venv/bin/pip install -c constraints.txt -e ".[report]"'
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
"""The marks of the figures: circles are translations, squares smooth fields."""
COLUMNS = {
    DISTANCE: "distance", PAIRS: "in_pairs", "distance_over_representation_norm": "over_representation",
    "bound_closed_form": "bound", "trivial": "trivial", "displacement_norm": "displacement",
    "jacobian_norm": "jacobian", "status_closed_form": "status", "asked_displacement_norm": "asked",
    "patch_size": "patch", "pooling_scale": "pooling", "image": "image", "field_seed": "field",
}  # fmt: skip
UNITS = {
    "distance": "‖Φ(Lτ x) − Φ(x)‖ / ‖x‖",
    "in_pairs": "‖Φ(Lτ x) − Φ(x)‖ / distance of two images",
    "over_representation": "‖Φ(Lτ x) − Φ(x)‖ / ‖Φ(x)‖",
}
AXES = {
    "displacement": "‖τ‖ (px)",
    "jacobian": "‖∇τ‖",
    "pooling": "last pooling scale (px)",
    "patch": "last patch size (px)",
}
FILTERS = (
    ("family", "field"),
    ("prepared", "input"),
    ("setting", "architecture"),
    ("representation", "representation"),
)
HEIGHT = 420
MOST = 5000
"""Points of a chart; of more rows every k-th is drawn."""
DODGE = 0.035
STAND_IN = "\ue000"


def words(run: Run) -> str:
    """What the chart shows, in a sentence or two."""
    there, drawn = _rows(run), len(records(run))
    which = "the curves" if is_quickstart(run) else "the run"
    some = f" (every {math.ceil(len(there) / MOST)}th of {len(there)} rows)" if len(there) > MOST else ""
    return (
        f"One point per row of {which}{some}: {drawn} points; hover to read its numbers, bound and trivial bound "
        "included. Representations stand side by side at each size so that they do not cover each other. Only "
        "distances over the distance of two images may be compared between models."
    )


def records(run: Run) -> list[dict[str, Any]]:
    """The rows as the chart needs them: short names, words for inputs, families, architectures and representations."""
    rows = _rows(run)
    rows = rows.iloc[:: max(1, math.ceil(len(rows) / MOST))]
    table = rows[[name for name in COLUMNS if name in rows]].rename(columns=COLUMNS)
    numbers = table.select_dtypes("float").columns
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.4g}"))
    for name in ("bound", "trivial"):
        table[name] = table[name].where(np.isfinite(table[name]))
    order = {name: i - (rows[SERIES].nunique() - 1) / 2 for i, name in enumerate(series_of(rows))}
    table = table.assign(
        family=rows[DEFORMATION],
        prepared=[input_name(name) for name in rows["front_end"]],  # "input" is a word of Vega's bindings
        setting=rows[SETTING],
        representation=rows[SERIES],
        dodge=[round(math.exp(DODGE * order[name]), 4) for name in rows[SERIES]],
    )
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found


def _rows(run: Run) -> pd.DataFrame:
    rows = measured(part(run, "curves")) if is_quickstart(run) else measured(run.complete())
    return with_settings(rows[rows[DISTANCE] > 0])


def interactive(run: Run) -> str:
    """An HTML fragment with its scripts inlined: one point per row, filters, choice of both axes, the row on hovering.

    Args:
        run: any run; of a quickstart its curves are shown.

    Raises:
        ImportError: if altair or vl-convert is missing.
    """
    import altair

    importlib.import_module("vl_convert")  # without it the scripts cannot be inlined

    rows = _rows(run)
    data = [{key: _safe(value) for key, value in row.items()} for row in records(run)]
    filters = []
    for column, name in FILTERS:
        values = sorted({row[column] for row in data if row[column]})
        if len(values) < 2 and column not in ("family", "representation"):
            continue
        labels = ["all", *values]
        menu = altair.binding_select(options=[None, *values], labels=labels, name=f"{name} ")
        filters.append(altair.selection_point(fields=[column], bind=menu, name=f"chosen_{column}"))
    unit, axis = (
        _choice(altair, "chosen_unit", "y axis ", UNITS, data),
        _choice(altair, "chosen_axis", "x axis ", AXES, data),
    )
    looks = {_safe(name): mark for name, mark in marks(rows).items()}
    names, fields = list(looks), sorted(map(_safe, deformations(rows)))
    title = altair.Title(
        altair.expr(f"{_words(UNITS, 'chosen_unit')} + '  over  ' + {_words(AXES, 'chosen_axis')}"), anchor="start"
    )
    shapes = [_shape(name, i) for i, name in enumerate(fields)]
    chart = (
        altair.Chart(altair.InlineData(values=data))
        .transform_calculate(x="datum[chosen_axis] * datum.dodge", y="datum[chosen_unit]")
        .transform_filter("datum.x > 0 && datum.y > 0")
        .mark_point(filled=True, size=34, opacity=0.55)
        .encode(
            x=altair.X("x:Q", scale=altair.Scale(type="log", nice=False, padding=12), title=None),
            y=altair.Y("y:Q", scale=altair.Scale(type="log"), title=None),
            color=altair.Color(
                "representation:N",
                scale=altair.Scale(domain=names, range=[looks[name].color for name in names]),
                legend=altair.Legend(
                    orient="bottom", title=None, columns=2, labelLimit=320, labelFontSize=12, symbolOpacity=1
                ),
            ),
            shape=altair.Shape(
                "family:N",
                scale=altair.Scale(domain=fields, range=shapes),
                legend=altair.Legend(
                    orient="top", title=None, columns=2, labelFontSize=12, labelLimit=420, symbolFillColor="#808080"
                ),
            ),
            tooltip=[altair.Tooltip(f"{name}:{kind}", title=words) for name, kind, words in _tooltip(data)],
        )
        .add_params(*filters, unit, axis)
        .properties(width="container", height=HEIGHT, title=title)
        .configure(
            background="transparent",
            font="sans-serif",
            autosize=altair.AutoSizeParams(type="fit-x", contains="padding"),
            axis=altair.AxisConfig(labelFontSize=12),
        )
    )
    for choice in filters:
        chart = chart.transform_filter(choice)
    html = chart.to_html(
        inline=True, fullhtml=False, output_div="rows-chart", embed_options={"actions": False, "renderer": "svg"}
    )
    return str(html).replace(json.dumps(STAND_IN)[1:-1], r"\u003c").replace(STAND_IN, r"\u003c")


def _safe(value: Any) -> Any:
    """Words of the rows cannot end the script that holds them: "<" becomes an escape of JSON in the end."""
    return value.replace("<", STAND_IN) if isinstance(value, str) else value


def _choice(altair: Any, name: str, label: str, table: dict[str, str], data: list[dict[str, Any]]) -> Any:
    """A menu of the columns of a table that hold two or more positive numbers; the norms of tau always."""
    there = [key for key in table if len({row[key] for row in data if row.get(key) and row[key] > 0}) > 1]
    there = there or [next(iter(table))]
    menu = altair.binding_select(options=there, labels=[table[key] for key in there], name=label)
    return altair.param(name=name, bind=menu, value=there[0])


def _words(table: dict[str, str], name: str) -> str:
    """A Vega expression: the words of the chosen column."""
    return f"({json.dumps(table, ensure_ascii=False)})[{name}]"


def _shape(field: str, turn: int) -> str:
    known = {FIELD["translation"]: SHAPES[0], FIELD["fourier"]: SHAPES[1]}
    return known.get(field, SHAPES[2 + turn % (len(SHAPES) - 2)])


def _tooltip(data: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(column, kind, words) of everything that a row says, as far as it says something."""
    columns = [
        ("representation", "N", "representation"),
        ("setting", "N", "architecture"), ("family", "N", "deformation"), ("prepared", "N", "input"),
        ("image", "N", "image"), ("field", "N", "field"), ("displacement", "Q", "‖τ‖ (px)"), ("jacobian", "Q", "‖∇τ‖"),
        ("distance", "Q", "distance / ‖x‖"), ("in_pairs", "Q", "over two images"), ("bound", "Q", "bound"),
        ("trivial", "Q", "trivial bound"), ("status", "N", "status"),
    ]  # fmt: skip
    return [column for column in columns if any(row.get(column[0]) not in (None, "") for row in data)]
