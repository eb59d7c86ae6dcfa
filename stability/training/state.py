"""The state of a training after an epoch, on disk: what an interrupted run goes on from, to the same result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stability.files import replacing


@dataclass
class Progress:
    """Numbers of the epochs that are done, and the best one so far (0: none).

    Args:
        loss: mean loss of each epoch's batches.
        accuracy: share of right answers in them.
        test_accuracy: on the test images.
        validation_accuracy: on the validation images.
        best_epoch: the epoch of the largest validation accuracy, counted from 1.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = 0


def run_digest(classifier: nn.Module, parts: Mapping[str, object], tensors: Mapping[str, Tensor | None]) -> str:
    """SHA-256 of what makes a training: the weights it starts from, its settings, its data and its randomness."""
    digest = hashlib.sha256(json.dumps({name: repr(part) for name, part in sorted(parts.items())}).encode())
    held = {f"weights.{name}": value for name, value in classifier.state_dict().items()}
    for name, value in sorted((held | dict(tensors)).items()):
        if value is None:
            digest.update(f"{name}: none;".encode())
            continue
        digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_state(
    path: Path,
    digest: str,
    classifier: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    progress: Progress,
    best: Mapping[str, Tensor],
) -> None:
    """Write everything an epoch leaves behind; the file is whole or the old one."""
    tensors = {f"weights.{name}": value for name, value in classifier.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    tensors["generator"] = generator.get_state()
    for index, held in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in held.items()}
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(copies, temporary, metadata={"digest": digest, "progress": json.dumps(asdict(progress))})


def read_state(
    path: Path, digest: str, classifier: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> tuple[Progress, dict[str, Tensor]]:
    """Put everything back in place; the epochs that are done, and the best weights so far.

    Raises:
        ValueError: if the file is no such state, or that of another training.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header, names = file.metadata() or {}, file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"state must be a file that a training wrote, got {str(path)!r} ({reason}); remove it to begin anew"
        ) from None
    if header.get("digest") != digest:
        raise ValueError(
            f"state must be that of the same training, got {str(path)!r}, begun from other weights, data, settings or "
            "seed; choose another file or remove it to begin anew"
        )
    device = next(classifier.parameters()).device
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}}
    held: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, _, key = rest.partition(".")
            held.setdefault(int(index), {})[key] = value if key == "step" else value.to(device)
        elif kind in groups:
            groups[kind][rest] = value.to(device)
    classifier.load_state_dict(groups["weights"])
    optimiser.load_state_dict({"state": held, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    return Progress(**json.loads(header["progress"])), groups["best"]
