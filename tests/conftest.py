"""Randomness seeded by the test's own name; what tests of pages share."""

import builtins
import zlib

import pytest
import torch
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(request.node.name.encode()))


OPTIONAL = ("altair", "vl_convert")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested elsewhere: an empty one stands for each."""
    from stability.report import parts

    monkeypatch.setattr(parts, "svg", lambda run, name: ("<svg/>", f"Caption of {name}."))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """An installation without the extra."""
    there = builtins.__import__

    def importing(name, *arguments, **keywords):
        if name.partition(".")[0] in OPTIONAL:
            raise ImportError(name)
        return there(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", importing)
