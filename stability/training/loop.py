"""``train``: Adam on labelled images, epoch by epoch."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from stability.representations.explicit import ExplicitRepresentation
from stability.training.augmentations import Augmentation
from stability.training.classifier import Classifier, accuracy, check_classes, check_labels, new_head, placed
from stability.training.heads import HeadLearning, StochasticHead
from stability.training.history import History
from stability.training.schedules import Constant, Schedule
from stability.training.state import Progress, read_state, run_digest, write_state

Labelled = tuple[Tensor, Tensor]
STOCHASTIC = StochasticHead()
CONSTANT = Constant()


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    generator: torch.Generator,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    test: Labelled | None = None,
    validation: Labelled | None = None,
    patience: int | None = None,
    head: HeadLearning = STOCHASTIC,
    schedule: Schedule = CONSTANT,
    augmentation: Augmentation | None = None,
    state: str | Path | None = None,
    progress: bool = False,
) -> History:
    """Minimise the cross-entropy by Adam; the network's parameters change in place, it ends in evaluation mode.

    Args:
        network: maps images to scores ``(B, classes)``, as ``LeNet``; or a representation with a feature map, as
            ``CNN`` or ``CKN``: a linear head on its flattened last map (started at zero) is then trained with it. The
            anchors of a ``CKN`` learn if they ask for gradients, ``ckn.requires_grad_(True)``, and stay on the sphere.
        images: ``(N, C, *size)``, floating point; the network computes in its parameters' dtype and on their device.
        labels: ``(N,)``, int64 in 0 ... classes - 1.
        epochs: passes over the images, >= 1.
        generator: source of randomness, on the CPU: the order of the images.
        batch_size: images per step, >= 1; the last batch of an epoch may be smaller.
        learning_rate: Adam's, > 0.
        test: images and labels on which every epoch is judged; they play no part in the training.
        validation: images and labels, none of them a test image, on which early stopping is decided.
        patience: stop after so many epochs without a larger validation accuracy, >= 1, and return to the weights of
            the best epoch (the first of equal ones); None: all epochs, and the weights of the last.
        head: ``StochasticHead()``; for a representation with a feature map also ``ExactHead(penalty)``, or
            ``StochasticHead(ExactHead(penalty))``, which begins at the exact head.
        schedule: how the learning rate changes from step to step: ``Constant()``, or ``Cosine()``.
        augmentation: what is done to every batch, for example ``ShiftAndFlip()``; None: nothing. ``loss`` and
            ``accuracy`` are those on the changed images; an exact head is found on the images as they are.
        state: a file, written after every epoch. If it is there the training goes on from it, to the same weights bit
            for bit on one thread (``epochs`` alone may have grown, with a constant rate); the network, data, settings
            and generator must be given as they were at first.
        progress: show a bar.

    Returns:
        ``History``: loss and accuracies of every epoch, and the ``classifier`` with its ``head``.

    Raises:
        ValueError: for arguments out of range, labels that do not fit, a loss that is no longer finite, or a state of
            another training.

    Reference: Kingma & Ba 2015.

    >>> import stability as st
    >>> data, rng = st.images.dataset("fashion"), torch.Generator().manual_seed(0)
    >>> history = train(st.LeNet(), data.images[:20], data.labels[:20], epochs=2, generator=rng)
    >>> history.epochs, history.loss[1] < history.loss[0], history.head
    (2, True, None)
    """
    _check_numbers(epochs, batch_size, learning_rate, patience)
    if patience is not None and validation is None:
        raise ValueError(f"validation must be images and labels to stop early, got none with patience {patience}")
    check_labels(images, labels)
    if int(labels.min()) == int(labels.max()):
        raise ValueError(f"labels must hold two classes at least, got {int(labels.min())} alone; add other images")
    judged = [part for part in (validation, test) if part is not None]
    classifier = network
    if isinstance(network, ExplicitRepresentation):
        classes = 1 + int(max(part.max() for part in (labels, *(part[1] for part in judged))))
        classifier = Classifier(network, new_head(network, images, classes))
    elif not head.stepped or head.beginning is not None:
        raise ValueError(f"head must be StochasticHead() for a network that gives scores itself, got {head!r}")
    check_classes(classifier, images, labels)
    for part in judged:
        check_labels(*part)
        check_classes(classifier, *part)
    learnt = [p for p in classifier.parameters() if p.requires_grad]
    if isinstance(classifier, Classifier) and not head.stepped:
        learnt = [p for p in classifier.representation.parameters() if p.requires_grad]
    # with an exact head and fixed features there is nothing to step
    optimiser = torch.optim.Adam(learnt or [nn.Parameter(torch.zeros(1))], lr=learning_rate)
    done, best, path, digest = Progress(), dict[str, Tensor](), None if state is None else Path(state), ""
    if path is not None:
        if not path.parent.is_dir():
            raise ValueError(f"state must be in a folder that exists, got {str(path)!r}; make the folder first")
        settings: dict[str, object] = {
            "batch": batch_size,
            "rate": float(learning_rate),
            "patience": patience,
            "head": head,
        }
        if schedule != CONSTANT:
            settings["schedule"] = schedule, epochs
        if augmentation is not None:
            settings["augmentation"] = augmentation
        given = {"images": images, "labels": labels, "generator": generator.get_state()}
        given |= {f"{name}.{i}": part for name, pair in (("test", test), ("validation", validation)) if pair
                  for i, part in enumerate(pair)}  # fmt: skip
        digest = run_digest(classifier, settings, given)
        if path.exists():
            done, best = read_state(path, digest, classifier, optimiser, generator)
    images = placed(classifier, images)
    labels = labels.to(images.device)
    if not done.loss and head.beginning is not None:
        _settle(classifier, head.beginning, images, labels)
    epoch_numbers, per_epoch = range(len(done.loss), epochs), math.ceil(len(images) / batch_size)
    for epoch in tqdm(
        epoch_numbers, total=epochs, initial=len(done.loss), unit="epoch", disable=not progress, leave=False
    ):
        if patience is not None and len(done.loss) - done.best_epoch >= patience and done.loss:
            break
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        rates = [learning_rate * schedule.factor(step, epochs * per_epoch) for step in steps]
        loss, right = _epoch(classifier, optimiser, images, labels, generator, batch_size, rates, augmentation)
        if not math.isfinite(loss):
            raise ValueError(
                f"learning_rate must keep the loss finite, got {loss} with {learning_rate} in epoch {epoch + 1}; "
                "use a smaller one"
            )
        _settle(classifier, head, images, labels)
        done.loss.append(loss)
        done.accuracy.append(right)
        if validation is not None:
            done.validation_accuracy.append(accuracy(classifier, *validation))
            if done.validation_accuracy[-1] > max(done.validation_accuracy[:-1], default=-1.0):
                done.best_epoch = epoch + 1
                best = {name: value.detach().clone() for name, value in classifier.state_dict().items()}
        if test is not None:
            done.test_accuracy.append(accuracy(classifier, *test))
        if path is not None:
            write_state(path, digest, classifier, optimiser, generator, done, best)
    if patience is not None:
        classifier.load_state_dict(best)
    classifier.eval()
    return History(
        tuple(done.loss), tuple(done.accuracy), tuple(done.test_accuracy), classifier,
        tuple(done.validation_accuracy), done.best_epoch if patience is not None else len(done.loss),
    )  # fmt: skip


def _epoch(
    classifier: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    batch_size: int,
    rates: Sequence[float],
    augmentation: Augmentation | None,
) -> tuple[float, float]:
    """One pass: mean loss, and share of right answers, each before its step."""
    classifier.train()
    total, right = 0.0, 0
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    batches = order.to(images.device).split(batch_size)
    for chosen, rate in zip(batches, rates, strict=True):
        batch, wanted = images[chosen], labels[chosen]
        scores = classifier(batch if augmentation is None else augmentation.apply(batch, generator))
        optimiser.param_groups[0]["lr"] = rate
        loss = nn.functional.cross_entropy(scores, wanted)
        if loss.requires_grad:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if isinstance(classifier, Classifier):
            classifier.representation.retract_()
        total += float(loss.detach()) * len(chosen)
        right += int((scores.argmax(dim=1) == wanted).sum())
    return total / len(images), right / len(images)


def _settle(classifier: nn.Module, head: HeadLearning, images: Tensor, labels: Tensor) -> None:
    if isinstance(classifier, Classifier) and not head.stepped:
        with torch.no_grad():
            features = torch.cat([classifier.representation(part).flatten(1) for part in images.split(256)])
        head.settle_(classifier.head, features, labels)


def _check_numbers(epochs: int, batch_size: int, learning_rate: float, patience: int | None) -> None:
    for name, number in (
        ("epochs", epochs),
        ("batch_size", batch_size),
        ("patience", 1 if patience is None else patience),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {number!r}; use for example 20")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}; use 1e-3")
