"""Randomness seeded by the test's own name; what tests of pages share."""

import zlib

import pytest
import torch
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures on a page."""
    from pages import without_figures

    without_figures(monkeypatch)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """An installation without the extra, and empty figures."""
    from pages import without_extra

    without_extra(monkeypatch)
