"""Randomness seeded by the test's own name; one thread, float64."""

import builtins
import zlib
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
