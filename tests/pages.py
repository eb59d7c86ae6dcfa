"""Pages without what takes long: without the optional packages, with an empty figure for each."""

import builtins

import pytest

from stability import plots
from stability.report import page, parts

OPTIONAL = ("altair", "vl_convert")


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Figures are tested elsewhere: an empty one stands for each."""
    patch.setattr(parts, "svg", lambda run, name: ("<svg/>", f"Caption of {name}."))


def without_extra(patch: pytest.MonkeyPatch) -> None:
    """An installation without the extra."""
    there = builtins.__import__

    def importing(name, *arguments, **keywords):
        if name.partition(".")[0] in OPTIONAL:
            raise ImportError(name)
        return there(name, *arguments, **keywords)

    patch.setattr(builtins, "__import__", importing)


def bare_page(run: plots.Run) -> str:
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        without_extra(patch)
        return page.page(run)
