"""Randomness seeded by the test's own name; what tests of pages share."""

import zlib

import pytest
import torch
from hypothesis import settings
from places import PLACES, Place

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=PLACES, ids=lambda place: place.name)
def place(request: pytest.FixtureRequest) -> Place:
    """Where to compute what is then compared with the CPU."""
    if request.param.name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


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
