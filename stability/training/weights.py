"""Weights on disk, with what is needed to repeat them."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stability import __version__

METADATA = "stability"
"""Key of the file's header under which the metadata stand, as JSON."""
PACKAGES = ("torch", "safetensors", "numpy")


def save(path: str | Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write all parameters and buffers as a safetensors file, under a temporary name that is then moved into place.

    Args:
        path: of the file; its folder must exist.
        network: for example ``LeNet``, ``CNN`` or ``History.classifier``.
        metadata: plain data (what JSON can hold): seed, epochs, accuracy, name of the images, as
            ``History.metadata`` gives them. Versions of the packages are added under "versions".

    Raises:
        ValueError: if the metadata are not plain data, or there is no such folder.
    """
    versions = {name: packages.version(name) for name in PACKAGES}
    versions |= {"stability": __version__, "python": platform.python_version()}
    try:
        header = json.dumps({**metadata, "versions": versions}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be plain data, got {metadata!r} ({error}); use numbers and strings") from None
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path must be in a folder that exists, got {str(path)!r}; make the folder first")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, metadata={METADATA: header})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path, network: nn.Module) -> dict[str, Any]:
    """Read the weights that ``save`` wrote into a network of the same shape; nothing changes unless all of them fit.

    Args:
        path: of the file.
        network: gets the weights, in place; its own device is kept.

    Returns:
        The metadata; empty for a file of other origin.

    Raises:
        ValueError: if the file is missing or no safetensors file, or its tensors are not those of the network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            names = file.keys()  # a list; the file itself is no mapping
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"path must be a safetensors file, got {str(path)!r} ({reason}); write one by save") from None
    own = network.state_dict()
    for problem, wrong in (("lacks", own.keys() - tensors.keys()), ("has no place for", tensors.keys() - own.keys())):
        if wrong:
            holder = "the file" if problem == "lacks" else "the network"
            raise ValueError(
                f"the weights in {str(path)!r} must be those of {type(network).__name__}, got other ones: {holder} "
                f"{problem} {', '.join(sorted(wrong))}; build the network as it was saved"
            )
    for name, value in tensors.items():
        if value.shape != own[name].shape or value.dtype != own[name].dtype:
            raise ValueError(
                f"{name!r} in {str(path)!r} must be {tuple(own[name].shape)} of {own[name].dtype}, got "
                f"{tuple(value.shape)} of {value.dtype}; build the network as it was saved"
            )
    network.load_state_dict(tensors)
    return dict(json.loads(header[METADATA])) if METADATA in header else {}


def checkpoint_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: which weights a row was made with."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
