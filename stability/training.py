r"""Training a small network on labelled images, and its weights on disk with what is needed to repeat it.

    loss = mean over the batch of -log softmax(scores)_label,    minimised by Adam

Batches are drawn from an explicit generator and nothing else is random, so that a seed gives the same weights bit for
bit on one thread.
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from stability import __version__
from stability.grid import check_images
from stability.representations.explicit import ExplicitRepresentation

METADATA = "stability"
"""Key of the file's header under which the metadata stand, as JSON."""
PACKAGES = ("torch", "safetensors", "numpy")


class Classifier(nn.Module):
    """Scores of a linear head on the flattened last map of a representation with a feature map: W Phi(x) + w_0.

    Args:
        representation: for example a ``CNN``; its parameters are shared, not copied.
        head: takes all of a map's K H' W' entries.
    """

    def __init__(self, representation: ExplicitRepresentation, head: nn.Linear) -> None:
        super().__init__()
        self.representation, self.head = representation, head

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, classes)`` for images ``(B, C, *size)``."""
        return self.head(self.representation(images).flatten(1))


@dataclass(frozen=True, eq=False)
class History:
    """What a training did, epoch by epoch.

    Args:
        loss: mean loss of the epoch's batches, each before its step.
        accuracy: share of right answers in them.
        test_accuracy: share of right answers on the test images after each epoch; empty without test images.
        classifier: what maps images to scores: the network itself, or a ``Classifier`` of network and head.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    classifier: nn.Module

    @property
    def epochs(self) -> int:
        """Number of passes over the images."""
        return len(self.loss)

    @property
    def head(self) -> nn.Linear | None:
        """The linear head that was trained with a representation; None for a network that gives scores itself."""
        return self.classifier.head if isinstance(self.classifier, Classifier) else None

    def metadata(self, *, seed: int, images: str) -> dict[str, Any]:
        """What ``save`` is to keep: seed, name of the images, epochs, last accuracies (test: None without)."""
        return {
            "seed": seed,
            "images": images,
            "epochs": self.epochs,
            "accuracy": self.accuracy[-1],
            "test_accuracy": self.test_accuracy[-1] if self.test_accuracy else None,
        }


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    generator: torch.Generator,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    test: tuple[Tensor, Tensor] | None = None,
    progress: bool = False,
) -> History:
    """Minimise the cross-entropy by Adam; the network's parameters change in place, it ends in evaluation mode.

    Args:
        network: maps images to scores ``(B, classes)``, as ``LeNet``; or a representation with a feature map, as
            ``CNN``: a linear head on its flattened last map (started at zero) is then trained with it.
        images: ``(N, C, *size)``, floating point; the network computes in its parameters' dtype and on their device.
        labels: ``(N,)``, int64 in 0 ... classes - 1.
        epochs: passes over the images, >= 1.
        generator: source of randomness, on the CPU: the order of the images.
        batch_size: images per step, >= 1; the last batch of an epoch may be smaller.
        learning_rate: Adam's, > 0.
        test: images and labels on which every epoch is judged; they play no part in the training.
        progress: show a bar.

    Returns:
        ``History``: loss and accuracies of every epoch, and the ``classifier`` with its ``head``.

    Raises:
        ValueError: for arguments out of range, labels that do not fit, or a loss that is no longer finite.

    Reference: Kingma & Ba 2015.

    >>> import stability as st
    >>> data, rng = st.images.dataset("fashion"), torch.Generator().manual_seed(0)
    >>> history = train(st.LeNet(), data.images[:20], data.labels[:20], epochs=2, generator=rng)
    >>> history.epochs, history.loss[1] < history.loss[0], history.head
    (2, True, None)
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {number!r}; use for example 20")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}; use 1e-3")
    _check_labels(images, labels)
    classifier = network
    if isinstance(network, ExplicitRepresentation):
        classes = 1 + int(max(part.max() for part in (labels, *([test[1]] if test else []))))
        classifier = Classifier(network, _head(network, images, classes))
    _check_classes(classifier, images, labels)
    if test is not None:
        _check_labels(*test)
        _check_classes(classifier, *test)
    optimiser = torch.optim.Adam([p for p in classifier.parameters() if p.requires_grad], lr=learning_rate)
    images, losses, accuracies, tested = _placed(classifier, images), [], [], []
    labels = labels.to(images.device)
    for epoch in tqdm(range(epochs), unit="epoch", disable=not progress, leave=False):
        classifier.train()
        total, right = 0.0, 0
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            scores, wanted = classifier(images[chosen]), labels[chosen]
            loss = nn.functional.cross_entropy(scores, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(chosen)
            right += int((scores.argmax(dim=1) == wanted).sum())
        if not math.isfinite(total):
            raise ValueError(
                f"learning_rate must keep the loss finite, got {total} with {learning_rate} in epoch {epoch + 1}; "
                "use a smaller one"
            )
        losses.append(total / len(images))
        accuracies.append(right / len(images))
        if test is not None:
            tested.append(accuracy(classifier, *test))
    classifier.eval()
    return History(tuple(losses), tuple(accuracies), tuple(tested), classifier)


def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 256) -> float:
    """Share of the images whose label has the largest score, in evaluation mode (in which the classifier is left).

    Args:
        classifier: maps images to scores ``(B, classes)``.
        images: ``(N, C, *size)``.
        labels: ``(N,)``, int64.
        batch_size: images per pass.
    """
    _check_labels(images, labels)
    classifier.eval()
    with torch.no_grad():
        answers = [classifier(_placed(classifier, part)).argmax(dim=1).to(labels) for part in images.split(batch_size)]
    return float((torch.cat(answers) == labels).double().mean())


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


def _head(representation: ExplicitRepresentation, images: Tensor, classes: int) -> nn.Linear:
    """A linear map of the flattened features, zero at first: Adam then starts at log(classes), without randomness."""
    with torch.no_grad():
        features = representation(_placed(representation, images[:1])).flatten(1)
    head = nn.utils.skip_init(nn.Linear, features.shape[1], classes, dtype=features.dtype, device=features.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def _placed(network: nn.Module, images: Tensor) -> Tensor:
    """The images in the dtype and on the device of the network's first floating-point parameter."""
    for parameter in network.parameters():
        if parameter.is_floating_point():
            return images.to(parameter.device, parameter.dtype)
    return images


def _check_classes(classifier: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Every label must have a score; one image is passed through to see how many there are."""
    classifier.eval()
    with torch.no_grad():
        scores = classifier(_placed(classifier, images[:1]))
    if scores.ndim != 2 or int(labels.max()) >= scores.shape[1]:
        raise ValueError(
            f"the network must give a score for each of the labels 0 ... {int(labels.max())}, got scores of shape "
            f"{tuple(scores.shape)} for one image; give it more classes"
        )


def _check_labels(images: Tensor, labels: Tensor) -> None:
    check_images(images)
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or not len(labels) or int(labels.min()) < 0:
        raise ValueError(
            f"labels must be one int64 number >= 0 per image ({len(images)},), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; use dataset(...).labels"
        )
