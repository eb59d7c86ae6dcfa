"""The parts of a page as HTML text. Standard library only; every word from the rows is escaped."""

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stability.plots import FIGURES, Run, png
from stability.plots.reading import DISTANCE, FIELD, input_name, inputs, measured, of_sweep
from stability.report.numbers import (
    GLOSSARY,
    NEARLY_LINEAR,
    SAFE_ANTIALIASING,
    apart_from_linear,
    kernel_words,
    paired,
    percent,
    table,
    unit_slope,
    violations,
)

SHOWN_VIOLATIONS = 20
SYMBOLS = {
    r"\|\|": "‖",
    r"\bgrad (?=tau\b)": "∇",
    r"\bL_tau\b": "Lτ",
    r"\btau\b": "τ",
    r"\bPhi\b": "Φ",
    r"\bkappa'": "κ′",
    r"\balpha\b": "α",
    r">=": "≥",
    r" - (?=\S)": " − ",
    r"(?<=\d)-(?=\d+ %)": "–",
}


def escape(value: object) -> str:
    """Text that is safe inside an element or an attribute."""
    return html.escape(str(value), quote=True)


def prose(text: str) -> str:
    """Escaped text with the letters of the formulas, and with units that stay on the line of their number.

    >>> prose("||grad tau|| >= 1 moves 5 px, sigma_n < 2")
    '‖∇τ‖ ≥ 1 moves 5&nbsp;px, σ<sub>n</sub> &lt; 2'
    """
    for plain, letter in SYMBOLS.items():
        text = re.sub(plain, letter, text)
    text = re.sub(r"sigma_(\w)", "σ<sub>\\1</sub>", escape(text))
    return re.sub(r"(?<=\d) (?=%|px\b|times\b)", "&nbsp;", text)


def paragraph(text: str, kind: str = "") -> str:
    """One paragraph, in a box of the given class if there is one."""
    inner = f"<p>{prose(text)}</p>"
    return f'<div class="{kind}">{inner}</div>' if kind else inner


def lines(sentences: Iterable[str]) -> str:
    """Items of the list of lines that matter."""
    return "\n".join(f"<li>{prose(sentence)}</li>" for sentence in sentences)


def warnings(run: Run) -> str:
    """Violations first, then a grid that is too coarse for its first low-pass."""
    found, rows = [], measured(run.rows)
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
    """How far the exact CKN is from the linear kernel, by input, and what follows from it."""
    rows = of_sweep(run, "curves")
    apart, both = apart_from_linear(rows), paired(rows)
    if not apart:
        return paragraph("No linear control was measured.")
    body = []
    for front_end in inputs(rows):
        part = both[both["front_end"] == front_end]
        if part.empty:
            continue
        ratio = (part["ckn"] / part["linear"]).quantile([0.1, 0.5, 0.9])
        body.append(
            [input_name(front_end), percent(apart[front_end]), percent(float(part["apart"].quantile(0.9)))]
            + [f"{value:.2f}" for value in ratio]
        )
    depths = " or ".join(map(str, sorted(rows["depth"].unique().tolist())))
    words = [
        f"Over the curves, at depth {depths}, with the kernel {kernel_words(rows)}. The linear kernel of the same "
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
    """Every figure as an inline PNG on a white card, with its caption."""
    parts = []
    for name in FIGURES:
        content, caption = png(run, name)
        title = name.replace("_", " ").capitalize()
        parts.append(
            f'<figure id="{escape(name)}"><div class="picture"><img alt="{escape(title)}" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}"></div>'
            f"<figcaption><strong>{escape(title)}.</strong> {prose(caption)}</figcaption></figure>"
        )
    return "\n".join(parts)


def medians(run: Run) -> str:
    """Bound, trivial bound and measured distance per input, family and size."""
    found = table(of_sweep(run, "curves"))
    head = [
        "input",
        "field",
        "||tau|| (px)",
        "||grad tau||",
        "measured",
        "linear",
        "in pairs",
        "trivial",
        "bound",
        "ratio",
    ]
    body, starts, before = [], set(), None
    for row in found.sort_values(["front_end", "family"], ascending=False, kind="stable").to_dict("records"):
        group = (row["front_end"], row["family"])
        if before is not None and group != before:
            starts.add(len(body))
        before = group
        body.append(
            [input_name(row["front_end"]).removesuffix(" images"), FIELD.get(row["family"], row["family"])]
            + [f"{row['displacement_norm']:.3g}", f"{row['jacobian_norm']:.2g}"]
            + [_share(row[name]) for name in ("measured", "linear", "pairs", "trivial", "bound")]
            + [_number(row["ratio"])]
        )
    return grid(head, body, words=(1,), starts=starts)


def violation_part(run: Run) -> str:
    """The number of violations, which should be 0, and the first of them."""
    broken, rows = violations(run.rows), measured(run.rows)
    rule = "distance / ||x|| above bound + interpolation error + refinement + floor, or above trivial + floor"
    if broken.empty:
        return paragraph(f"Violations: 0 of {len(rows)} measured rows ({rule}).")
    columns = ["sweep", "image", "family", "field_seed", "representation", "front_end", "asked_displacement_norm"]
    values = [DISTANCE, "bound_closed_form", "trivial", "interpolation_error"]
    body = [
        [*map(str, row[: len(columns)]), *(f"{value:.3g}" for value in row[len(columns) :])]
        for row in broken[columns + values].head(SHOWN_VIOLATIONS).itertuples(index=False, name=None)
    ]
    text = f"Violations: {len(broken)} of {len(rows)} measured rows ({rule}). The first {len(body)}:"
    return paragraph(text, "warning") + grid(columns + values, body)


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
    counts = run.rows["status_closed_form"].value_counts()
    known = {str(name): meaning for name, meaning in GLOSSARY.items()}
    names = [*known, *(str(name) for name in counts.index if name not in known)]
    body = [[name, f"{int(counts.get(name, 0))}", known.get(name, "")] for name in names]
    scopes = run.rows.loc[run.rows["scope_closed_form"] != "", "scope_closed_form"].value_counts()
    scope_rows = [
        [str(name), str(count), "for which images and fields the bound speaks"] for name, count in scopes.items()
    ]
    trivial = [
        "this image, this field",
        str(len(measured(run.rows))),
        "the trivial bounds: a proof, for this pair only",
    ]
    return grid(["status", "rows", "meaning"], body, words=(2,)) + grid(
        ["scope", "rows", "meaning"], [*scope_rows, trivial], words=(2,)
    )


def again(record: Mapping[str, Any]) -> str:
    """Where the code of the run is, in words, before the commands that do it again."""
    commit, _, changes = str(record.get("commit") or "").partition("+")
    if not commit:
        return "<p>In a checkout of the repository:</p>"
    beside = " (the run itself had changes that were not committed)" if changes else ""
    return f"<p>In a clone of the repository at commit <code>{escape(commit)}</code>{beside}:</p>"


def provenance(record: Mapping[str, Any]) -> str:
    """Versions, commit, hashes of the specs and the digest of the images."""
    hashes = record.get("hash", {})
    named = hashes.items() if isinstance(hashes, Mapping) else [("spec", hashes)]
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    entries = [("versions", versions), ("commit", record.get("commit") or "not a checkout")]
    entries += [("platform", record.get("platform", "unknown")), *((f"hash of {name}", value) for name, value in named)]
    entries.append(("images, SHA-256", record.get("images_sha256", "unknown")))
    rows = "".join(f'<tr><td>{escape(name)}</td><td class="hash">{escape(value)}</td></tr>' for name, value in entries)
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def grid(
    head: Sequence[str], body: Sequence[Sequence[str]], *, words: Sequence[int] = (), starts: Iterable[int] = ()
) -> str:
    """A table that scrolls sideways on a narrow screen.

    Args:
        head: names of the columns.
        body: the cells, row by row.
        words: columns that hold words and are set flush left, beside the first.
        starts: rows with a line above.
    """
    first = set(starts)

    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=' + chr(34) + 'words' + chr(34) if i in words else ''}>{prose(value)}</{tag}>"
            for i, value in enumerate(values)
        )

    rows = "\n".join(
        f"<tr{' class=' + chr(34) + 'first' + chr(34) if i in first else ''}>{cells(row, 'td')}</tr>"
        for i, row in enumerate(body)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'
    )


def _share(value: float) -> str:
    if pd.isna(value):
        return "\N{EN DASH}"
    return "none" if math.isinf(value) else percent(value)


def _number(value: float) -> str:
    return "\N{EN DASH}" if not np.isfinite(value) else f"{value:.1f}"
