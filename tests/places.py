"""Where a computation may take place, and whether it gives there what it gives on the CPU."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pandas as pd
import pytest
import torch
from second_device import ELSEWHERE, SecondDevice
from torch import Tensor, nn

import stability as st
from stability.deformations.norms import Interval

ROUND_OFF = 1e-14
"""What another order of sums may leave of a zero, in pixels, or beside distances of about 1."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Inputs are put on ``device``, and ``within`` surrounds the computation."""

    name: str
    device: torch.device
    within: Callable[[], AbstractContextManager[Any]]

    def put(self, value: Any) -> Any:
        """A copy of the inputs here: tensors, fields, modules and what holds them."""
        if isinstance(value, Tensor):
            return value.detach().to(self.device).requires_grad_(value.requires_grad)
        if isinstance(value, nn.Module):
            return copy.deepcopy(value).to(self.device)
        if isinstance(value, st.Deformation):
            return value.to(device=self.device)
        if isinstance(value, tuple | list):
            return type(value)(self.put(one) for one in value)
        return value

    def check(
        self,
        function: Callable[..., Any],
        build: Callable[[], tuple[Any, ...]],
        *,
        here: bool = True,
        rtol: float = 1e-9,
        atol: float = ROUND_OFF,
    ) -> None:
        """function(*build()) is the same here and on the CPU.

        Args:
            function: to tensors, fields, numbers and what holds them.
            build: makes fresh inputs on the CPU; nothing that a field remembers is shared.
            here: whether tensors must be on this device; False: anywhere.
            rtol: relative to the largest number of each tensor.
        atol: beside it; for what is itself round-off.
        """
        expected = dict(leaves(function(*build())))
        inputs = build()
        with SecondDevice() if self.device == ELSEWHERE else nullcontext():
            inputs = self.put(inputs)
        with self.within():
            found = dict(leaves(function(*inputs)))
        assert found.keys() == expected.keys()
        for name, value in found.items():
            same(name, value, expected[name], self.device if here else None, rtol, atol)


def same(name: str, value: Any, expected: Any, device: torch.device | None, rtol: float, atol: float) -> None:
    if not isinstance(value, Tensor):
        near = (
            pytest.approx(expected, rel=rtol, abs=rtol + atol, nan_ok=True) if isinstance(expected, float) else expected
        )
        assert value == near, name
        return
    assert device is None or value.device.type == device.type, f"{name} is on {value.device}"
    assert (value.dtype, value.shape) == (expected.dtype, expected.shape), name
    value, expected = value.detach().cpu(), expected.detach()
    if name.endswith(("floor", "floor']")):  # measured round-off, which another order of sums makes another one
        assert ((value <= 10 * expected + atol) & (expected <= 10 * value + atol)).all(), name
        return
    if not value.is_floating_point() and not value.is_complex():
        assert torch.equal(value, expected), name
        return
    finite = expected[expected.isfinite()].abs()
    size = float(finite.max()) if finite.numel() else 0.0
    assert torch.allclose(value, expected, rtol=rtol, atol=atol + rtol * size, equal_nan=True), (
        f"{name}: off by {float((value - expected).abs().nan_to_num(0.0).max()):.2g} of {size:.2g}"
    )


def leaves(value: Any, name: str = "result") -> Iterator[tuple[str, Any]]:
    """What can be compared."""
    if isinstance(value, Interval):
        value = (value.lower, value.upper)
    if isinstance(value, st.Deformation):
        value = value.on_grid()
    if isinstance(value, pd.DataFrame):
        value = value.to_dict("list")
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from leaves(one, f"{name}[{key!r}]")
    elif isinstance(value, tuple | list):
        for index, one in enumerate(value):
            yield from leaves(one, f"{name}[{index}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, nn.Module):
        for key, one in value.state_dict().items():
            yield from leaves(one, f"{name}.{key}")
    elif isinstance(value, Tensor | bool | int | float | str) or value is None:
        yield name, value


PLACES = (
    Place("elsewhere", ELSEWHERE, SecondDevice),
    Place("cuda", torch.device("cuda"), nullcontext),
)
