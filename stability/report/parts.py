"""The parts of a page as HTML text. Standard library only; every word from the rows is escaped."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stability.bounds.rung import Status
from stability.plots import Run, applicable, svg
from stability.plots.captions import sample_words, trivial_words
from stability.plots.reading import DISTANCE, input_name, inputs, is_quickstart, measured, part
from stability.plots.series import DEFORMATION, EXACT, KIND, SERIES, SETTING, filled
from stability.report.markup import escape, grid, paragraph, prose
from stability.report.numbers import (
    GLOSSARY,
    NEARLY_LINEAR,
    SAFE_ANTIALIASING,
    apart_from_linear,
    kernel_words,
    paired,
    percent,
    unit_slope,
    violations,
)
from stability.report.numbers import medians as median_table

SHOWN_VIOLATIONS = 20


def warnings(run: Run) -> str:
    """Violations first, then a grid that is too coarse for its first low-pass."""
    found, rows = [], measured(filled(run.rows))
    broken = len(violations(run.rows))
    if broken:
        found.append(
            f"{broken} rows lie above a bound that is a theorem by more than their allowances: an error of the grid "
            "that a finer one would show, or a bug. See below."
        )
    narrow = rows.loc[rows["antialiasing"] < SAFE_ANTIALIASING, "antialiasing"]
    if len(narrow):
        found.append(
            f"{len(narrow)} rows have antialiasing = {narrow.min():g} px, below {SAFE_ANTIALIASING:g} px: sampling "
            "between the layers is no longer negligible, and the bounds are those of the continuous network."
        )
    return "\n".join(paragraph(text, "warning") for text in found)


def linear(run: Run) -> str:
    """How far the exact CKN is from the linear kernel, by input, and what follows from it; "" if there is no pair."""
    rows = part(run, "curves")
    apart, both = apart_from_linear(rows), paired(rows)
    if not apart:
        return ""
    body = []
    for front_end in inputs(rows):
        here = both[both["front_end"] == front_end]
        if here.empty:
            continue
        ratio = (here["ckn"] / here["linear"]).quantile([0.1, 0.5, 0.9])
        body.append(
            [input_name(front_end), percent(apart[front_end]), percent(float(here["apart"].quantile(0.9)))]
            + [f"{value:.2f}" for value in ratio]
        )
    depths = " or ".join(f"{depth:g}" for depth in sorted(rows.loc[rows[KIND] == EXACT, "depth"].unique().tolist()))
    words = [
        f"Over {'the curves' if is_quickstart(run) else 'all rows'}, at depth {depths}, with the kernel "
        f"{kernel_words(rows)}. The linear kernel of the same "
        "architecture is a Gaussian blur of the image."
    ]
    if "none" in apart:
        words.append(
            f"On raw grey images the exact CKN's distance is {percent(apart['none'])} (median) away from the blur's."
        )
        if apart["none"] <= NEARLY_LINEAR and unit_slope(rows):
            words.append(
                "Smooth non-negative patches are nearly parallel, and there a kernel with kappa'(1) = 1 is nearly "
                "linear: what raw images show with this kernel is the stability of the blur. A kernel with "
                "kappa'(1) > 1 is further away, on raw images too."
            )
    if "mean_removal" in apart:
        words.append(f"With the mean removed the two are {percent(apart['mean_removal'])} apart.")
    head = ["input", "median |CKN - linear| / linear", "90 % of rows below", "CKN / linear: 10 %", "median", "90 %"]
    return paragraph(" ".join(words), "note") + grid(head, body)


def figures(run: Run) -> str:
    """Every figure that applies as an inline SVG on a white card, with its caption and the command that draws it."""
    found = []
    for name in applicable(run):
        content, caption = svg(run, name)
        title = name.replace("_", " ").capitalize()
        found.append(
            f'<figure id="{escape(name)}"><div class="picture"><img alt="{escape(title)}" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(content.encode()).decode()}"></div>'
            f"<figcaption><strong>{escape(title)}.</strong> {prose(caption)}"
            f'<code class="command">{escape(command(name))}</code></figcaption></figure>'
        )
    if not found:
        return paragraph("These rows show no curve: every family has one size and every architecture one value.")
    return "\n".join(found)


def command(name: str) -> str:
    """The command behind a figure."""
    return f"stability plot STORE --figure {name} --style paper -o {name}.pdf"


def medians(run: Run) -> str:
    """Measured distance, trivial bound and bound per input, deformation, architecture, representation and size."""
    found = median_table(part(run, "curves"))
    shown = {
        "input": found["front_end"].nunique() > 1,
        "field": True,
        "architecture": found[SETTING].nunique() > 1,
        "representation": True,
    }
    names = [name for name, there in shown.items() if there]
    head = [*names, "||tau|| (px)", "||grad tau||", "measured", "in pairs", "trivial", "bound", "ratio"]
    body, starts, before = [], set(), None
    for row in found.to_dict("records"):
        words = {
            "input": input_name(row["front_end"]).removesuffix(" images"),
            "field": row[DEFORMATION],
            "architecture": row[SETTING],
            "representation": row[SERIES],
        }
        group = tuple(words.values())
        if before is not None and group != before:
            starts.add(len(body))
        before = group
        body.append(
            [words[name] for name in names]
            + [f"{row['displacement_norm']:.3g}", f"{row['jacobian_norm']:.2g}"]
            + [_share(row[name]) for name in ("measured", "pairs", "trivial", "bound")]
            + [_number(row["ratio"])]
        )
    table = grid(head, body, words=tuple(range(len(names))), starts=starts)
    return paragraph(f"Medians over {sample_words(part(run, 'curves'))}.") + table


def violation_part(run: Run) -> str:
    """The number of violations, which should be 0, and the first of them."""
    broken, rows = violations(run.rows), measured(run.rows)
    limits = np.isfinite(filled(rows)[["bound_closed_form", "trivial"]].to_numpy(dtype=float)).any(axis=1)
    none = int((~limits).sum())
    rule = "distance / ||x|| above bound + interpolation error + refinement + floor, or above trivial + floor"
    if broken.empty:
        return paragraph(f"Violations: 0 of {len(rows)} measured rows ({rule})." + _unlimited(none))
    columns = ["sweep", "image", "family", "field_seed", "representation", "front_end", "asked_displacement_norm"]
    columns = [name for name in columns if name in broken]
    values = [DISTANCE, "bound_closed_form", "trivial", "interpolation_error"]
    body = [
        [*map(str, row[: len(columns)]), *(f"{value:.3g}" for value in row[len(columns) :])]
        for row in broken[columns + values].head(SHOWN_VIOLATIONS).itertuples(index=False, name=None)
    ]
    text = f"Violations: {len(broken)} of {len(rows)} measured rows ({rule}). The first {len(body)}:{_unlimited(none)}"
    return paragraph(text, "warning") + grid(columns + values, body)


def _unlimited(count: int) -> str:
    return f" {count} of the rows have no bound that could be violated." if count else ""


def refinement_part(run: Run) -> str:
    """How much the distances change on a grid twice as fine: an estimate of the error of sampling between layers."""
    rows = measured(run.rows)
    rows = rows[rows["refinement"].notna()] if "refinement" in rows else rows.iloc[:0]
    if rows.empty:
        return paragraph("The error of the grid itself was not looked at in this run.")
    share = rows["refinement"] / rows["distance_over_input_norm"]
    return paragraph(
        f"The theorem speaks of functions, the network samples its kernel maps. On a grid twice as fine {len(rows)} of "
        f"the distances were evaluated again: they change by {percent(float(share.median()))} (median), at most by "
        f"{percent(float(share.max()))}. This is an estimate of the grid's error, no bound of it; it grows in "
        "proportion where the deformation is small and the last pooling wide."
    )


def glossary(run: Run) -> str:
    """Each status and scope with its meaning and its number of rows."""
    rows = filled(run.rows)
    counts = rows["status_closed_form"].value_counts()
    known = {str(name): meaning for name, meaning in GLOSSARY.items()}
    names = [*known, *(str(name) for name in counts.index if name not in known)]
    body = [[name, f"{int(counts.get(name, 0))}", known.get(name, "")] for name in names]
    scopes = rows.loc[rows["scope_closed_form"] != "", "scope_closed_form"].value_counts()
    scope_rows = [
        [str(name), str(count), "for which images and fields the bound speaks"] for name, count in scopes.items()
    ]
    there = measured(rows)
    trivial = [
        "this image, this field",
        str(int(np.isfinite(there["trivial"].to_numpy(dtype=float)).sum())),
        f"the trivial bounds, for this pair only; status: {trivial_words(there) or Status.NOT_COVERED}",
    ]
    return grid(["status", "rows", "meaning"], body, words=(2,)) + grid(
        ["scope", "rows", "meaning"], [*scope_rows, trivial], words=(2,)
    )


def again(run: Run) -> str:
    """Where the code of the run is, in words, the commands that do it again, and the spec of a store."""
    record = run.record
    commit, _, changes = str(record.get("commit") or "").partition("+")
    words = "<p>In a checkout of the repository:</p>"
    if commit:
        beside = " (the run itself had changes that were not committed)" if changes else ""
        words = f"<p>In a clone of the repository at commit <code>{escape(commit)}</code>{beside}:</p>"
    do = "quickstart --out DIR" if is_quickstart(run) else "run SPEC.json --store STORE"
    lines = (
        f'python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[report]" && .venv/bin/stability {do}'
    )
    words += f"<pre><code>{escape(lines)}</code></pre>"
    spec = record.get("spec")
    if spec and not is_quickstart(run):
        text = json.dumps(spec, indent=1, sort_keys=True, ensure_ascii=False)
        words += f"<details><summary>SPEC.json</summary><pre><code>{escape(text)}</code></pre></details>"
    return words


def provenance(record: Mapping[str, Any]) -> str:
    """Versions, commit, hashes of the specs and the digest of the images."""
    hashes = record.get("hash", {})
    named = hashes.items() if isinstance(hashes, Mapping) else [("spec", hashes)]
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    entries = [("versions", versions), ("commit", record.get("commit") or "not a checkout")]
    entries += [("command", record["command"])] if record.get("command") else []
    entries += [("platform", record.get("platform", "unknown")), *((f"hash of {name}", value) for name, value in named)]
    entries.append(("images, SHA-256", record.get("images_sha256", "unknown")))
    rows = "".join(f'<tr><td>{escape(name)}</td><td class="hash">{escape(value)}</td></tr>' for name, value in entries)
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def _share(value: float) -> str:
    if pd.isna(value):
        return "\N{EN DASH}"
    return "none" if math.isinf(value) else percent(value)


def _number(value: float) -> str:
    return "\N{EN DASH}" if not np.isfinite(value) else f"{value:.1f}"
