"""Text as safe HTML: escaping, letters of the formulas, paragraphs, tables. Standard library only."""

import html
import re
from collections.abc import Iterable, Sequence

SYMBOLS = {
    r"\|\|": "‖",
    r"\bgrad (?=tau\b)": "∇",
    r"\bL_tau\b": "Lτ",
    r"\btau\b": "τ",
    r"\bPhi\b": "Φ",
    r"\bkappa'": "κ′",
    r"\balpha\b": "α",
    r">=": "≥",
    r"<=": "≤",
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
