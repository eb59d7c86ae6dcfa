"""A second device on a machine that has none: tensors on ``meta`` that hold their numbers.

Every tensor wraps one of the CPU, and only says that it is elsewhere. What a GPU refuses is refused: operands on two
devices (numbers and indices of the CPU excepted), a generator of another device, numpy.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
_aten = torch.ops.aten
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_MOVES = {_aten._to_copy.default, _aten.copy_.default}


class _Moved(Tensor):
    """A tensor of the CPU that says it is elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "_Moved":
        return Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=ELSEWHERE,
            requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"elsewhere({self.held!r})"

    def data_ptr(self) -> int:
        """Where the numbers are."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """torch's own refuses subclasses."""
        return self.held.tolist()

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_index(index), value)

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:
        """torch's own forgets the numbers."""
        return torch.tensor(data, dtype=dtype or self.dtype, device="cpu").to(ELSEWHERE)

    def numpy(self, *, force: bool = False) -> Any:
        """As for a tensor of a GPU.

        Raises:
            TypeError: unless it is forced.
        """
        if not force:
            raise TypeError("can't convert a tensor that is elsewhere to numpy; use Tensor.cpu() first")
        return self.held.numpy(force=True)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _built(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor`` and its like, whose numbers torch forgets on ``meta``: build on the CPU and move."""

    def built(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        if device is None or torch.device(device) != ELSEWHERE:
            return build(data, **({} if device is None else {"device": device}), **options)
        if isinstance(data, Tensor):
            return data.to(ELSEWHERE, options.get("dtype"))
        return build(data, device="cpu", **options).to(ELSEWHERE)

    return built


class SecondDevice(TorchDispatchMode):
    """Inside it ``device="meta"`` is a device with numbers."""

    def __enter__(self) -> "SecondDevice":
        self._own = {name: getattr(torch, name) for name in ("tensor", "as_tensor", "asarray")}
        for name, build in self._own.items():
            setattr(torch, name, _built(build))
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        for name, build in self._own.items():
            setattr(torch, name, build)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if func is _aten.to.other:  # as it is, in inference mode
        return args[0].to(args[1].device, args[1].dtype)
    named = [one for one in (*args, kwargs.get("device")) if isinstance(one, torch.device)]
    wanted = named[0] if named else None
    if func in _MOVES:
        there = (wanted or args[0].device) == ELSEWHERE
    elif tensors:
        there = _common(func, args, tensors) if wanted is None else wanted == ELSEWHERE
    else:
        there = wanted == ELSEWHERE
    drawn = kwargs.get("generator")
    if isinstance(drawn, torch.Generator) and there:
        raise RuntimeError(f"Expected a generator of {ELSEWHERE}, got one of {drawn.device}")
    bare = tree_map(_bare, (args, kwargs))
    func = _aten.zeros.default if func is _aten._efficientzerotensor.default else func
    with torch.inference_mode(False):  # inside it, wrappers of one storage would be no views
        out = func(*bare[0], **bare[1])
        if not there:
            return out
        if func is _aten._to_copy.default and any(out is leaf for leaf in tree_leaves(bare)):
            out = out.clone()
        wrapped = tree_map(lambda leaf: _Moved(leaf.resolve_conj()) if isinstance(leaf, Tensor) else leaf, out)
    written = [i for i, given in enumerate(func._schema.arguments) if given.alias_info and given.alias_info.is_write]
    if len(written) == 1 and isinstance(wrapped, Tensor):  # in place
        given = func._schema.arguments[written[0]]
        return kwargs[given.name] if given.name in kwargs else args[written[0]]
    if written:
        names = [func._schema.arguments[i].name for i in written]
        return tuple(kwargs[name] for name in names)
    return wrapped


def _bare(leaf: Any) -> Any:
    """What computes on the CPU."""
    return leaf.held if isinstance(leaf, _Moved) else torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _index(index: Any) -> Any:
    """Lists as tensors: torch would make them on ``meta``, without numbers."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.tensor(index, device="cpu") if isinstance(index, list) else index


def _common(func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> bool:
    """Whether the operands are elsewhere.

    Raises:
        RuntimeError: if they are on two devices.
    """
    if func in _INDEXED and isinstance(args[0], _Moved):
        tensors = [args[0], *[leaf for leaf in tree_leaves(args[2:]) if isinstance(leaf, Tensor)]]
    there = [isinstance(tensor, _Moved) for tensor in tensors]
    if any(tensor.device == ELSEWHERE and not moved for tensor, moved in zip(tensors, there, strict=True)):
        raise RuntimeError(f"{func}: a tensor of another second device")
    free = [not moved and not tensor.ndim for tensor, moved in zip(tensors, there, strict=True)]
    if any(there) and not all(moved or spare for moved, spare in zip(there, free, strict=True)):
        raise RuntimeError(f"{func}: expected all tensors to be on one device, got {ELSEWHERE} and cpu")
    return any(there)
