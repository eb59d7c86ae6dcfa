"""``stability train``: a small network on labelled images, and its weights in a file."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from stability.anchors import AnchorChoice, KMeans, Optimised, PivotedCholesky, RandomPatches
from stability.cli.parser import Command, Parser, given
from stability.cli.theory import architecture
from stability.front_ends import FrontEnd, Gradient, MeanRemoval, Whitening
from stability.names import resolve

if TYPE_CHECKING:
    from torch import Tensor, nn

MODELS = {"lenet": False, "cnn": True, "ckn": True}
"""Models that can be trained, and whether they have an architecture of the theory."""
ANCHORS: dict[str, type[AnchorChoice]] = {
    "k-means": KMeans, "random-patches": RandomPatches, "pivoted-cholesky": PivotedCholesky, "optimised": Optimised,
}  # fmt: skip
FRONT_ENDS: dict[str, FrontEnd | None] = {
    "none": None, "mean-removal": MeanRemoval(), "gradient": Gradient(), "whitening": Whitening()
}  # fmt: skip
WIDTHS = (16, 32)
"""Channels of the first layers of a CNN or CKN whose layers are not told; further ones have as many as the last."""
TOLD_WIDTHS = "16 32, further layers 32, as many as there are patch sizes; of a lenet 6 16"
TOLD_SCALES = "2 4 ..., as many as there are patch sizes"
HEADS = {"stochastic": False, "exact": True}
SCHEDULES = {"constant": False, "cosine": True}


def default_widths(sizes: Sequence[int]) -> tuple[int, ...]:
    """A width for every patch size.

    >>> default_widths([3]), default_widths([3, 3, 5])
    ((16,), (16, 32, 32))
    """
    return tuple(WIDTHS[min(i, len(WIDTHS) - 1)] for i in range(len(sizes)))


def default_scales(sizes: Sequence[int]) -> list[float]:
    """A pooling scale for every patch size, twice that of the layer before.

    >>> default_scales([3]), default_scales([3, 3, 5])
    ([2.0], [2.0, 4.0, 8.0])
    """
    return [2.0 ** (i + 1) for i in range(len(sizes))]


def add_lenet(parser: Parser) -> None:
    """What a LeNet is made of beside its widths."""
    parser.add_argument("--hidden", type=int, default=120, help="lenet: hidden units")
    parser.add_argument("--kernel-size", type=int, default=5, help="lenet: side of the filters")
    parser.add_argument("--padding", type=int, default=0, help="lenet: zeros around the maps before a convolution")
    parser.add_argument("--batch-normalisation", action="store_true", help="lenet: of both convolutions")


def commands() -> list[Command]:
    """``train``."""
    train = Parser(
        description="Train a LeNet, or a CNN or CKN with an architecture, and keep its weights for a sweep: "
        "{kind: lenet, checkpoint: FILE}, {kind: cnn, widths: ..., checkpoint: FILE} or {kind: ckn, filters: ..., "
        "ridge: ..., checkpoint: FILE}."
    )
    train.add_argument("-o", "--out", required=True, help="file.safetensors for the weights")
    train.add_argument("--model", default="lenet", help="lenet, cnn or ckn")
    train.add_argument("--images", default="fashion", help="image set")
    train.add_argument("--root", help="folder with the set's own files (default: the shipped images)")
    train.add_argument("--count", type=int, help="how many images are used, the last ones of the set (default: all)")
    train.add_argument("--size", type=int, nargs="+", default=[28, 28], help="H W in px")
    train.add_argument("--test-share", type=float, default=0.2, help="share of them kept for the test")
    train.add_argument("--epochs", type=int, default=20, help="passes over the images")
    train.add_argument("--batch-size", type=int, default=32, help="images per step")
    train.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    train.add_argument("--schedule", default="constant", help="of the learning rate: constant or cosine")
    train.add_argument("--flip", type=float, default=0.0, help="probability with which an image is mirrored")
    train.add_argument("--shift", type=int, default=0, help="px by which images are shifted at most, at random")
    train.add_argument("--seed", type=int, default=0, help="of the weights and of the batches")
    train.add_argument("--widths", type=int, nargs="+", help=f"channels of every layer (default: {TOLD_WIDTHS})")
    add_lenet(train)
    train.add_argument("--patch-sizes", type=int, nargs="+", default=[3, 3], help="cnn, ckn: e of every layer")
    train.add_argument(
        "--pooling-scales", type=float, nargs="+", help=f"cnn, ckn: sigma of every layer (default: {TOLD_SCALES})"
    )
    train.add_argument("--subsampling", type=int, nargs="+", help="cnn, ckn: stride of every layer")
    train.add_argument("--antialiasing", type=float, default=1.0, help="cnn, ckn: sigma_0")
    train.add_argument("--boundary", default="periodic", help="cnn, ckn: beyond the border, periodic or zero")
    train.add_argument("--smoothing", type=float, help="cnn: c of a smoothed ReLU (default: ReLU)")
    train.add_argument("--kernels", nargs="+", default=["exponential"], help="ckn: kernel of every layer, or of all")
    train.add_argument("--front-end", default="none", help=f"cnn, ckn: {', '.join(FRONT_ENDS)}")
    train.add_argument("--anchors", default="k-means", help=f"ckn: {', '.join(ANCHORS)}")
    train.add_argument("--ridge", type=float, default=1e-3, help="ckn: added to the anchors' Gram matrix")
    train.add_argument("--head", default="stochastic", help="cnn, ckn: stochastic, or exact once an epoch")
    train.add_argument("--penalty", type=float, default=1e-3, help="of an exact head")
    train.add_argument(
        "--validation-share", type=float, default=0.2, help="with patience: share of the training images"
    )
    train.add_argument("--patience", type=int, help="stop after so many epochs without a better validation accuracy")
    train.add_argument("--state", help="file from which an interrupted training goes on")
    return [Command("train", "train a small network and keep its weights", train, _train)]


def _train(options: Namespace) -> int:
    out, torus = Path(given("out", options.out)), resolve("model", options.model, MODELS)
    if out.suffix != ".safetensors":
        raise ValueError(f"out must end in .safetensors, got {str(out)!r}; the weights are kept in that format")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out must be in a folder that is there, got {str(out)!r}; make the folder first")
    if not 0 < options.test_share < 1:
        raise ValueError(f"test-share must be between 0 and 1, got {options.test_share:g}; use 0.2")
    import torch

    from stability import images as image_sets
    from stability import training
    from stability.workers import one_thread

    labels = image_sets.dataset(options.images, root=options.root).labels
    count = len(labels) if options.count is None else options.count
    tested = math.ceil(options.test_share * count)
    if not 2 <= count <= len(labels) or tested >= count:
        raise ValueError(f"count must be from 2 to {len(labels)}, the size of the set, got {count}; ask for fewer")
    pictures = image_sets.load(options.images, count=len(labels), size=options.size, root=options.root, torus=torus)[
        -count:
    ]
    labels = labels[-count:]
    if not 0 < options.validation_share < 1:
        raise ValueError(f"validation-share must be between 0 and 1, got {options.validation_share:g}; use 0.2")
    validated = 0 if options.patience is None else math.ceil(options.validation_share * (count - tested))
    first = tested + validated
    if first >= count:
        raise ValueError(
            f"validation-share must leave an image to learn from, got {options.validation_share:g}; lower it"
        )
    schedule = training.Cosine() if resolve("schedule", options.schedule, SCHEDULES) else training.Constant()
    augmented = training.ShiftAndFlip(options.shift, options.flip)  # checks both numbers
    exact = resolve("head", options.head, HEADS)
    with one_thread():  # the same weights on every machine
        network = _network(options, torus, pictures[first:])
        history = training.train(
            network,
            pictures[first:],
            labels[first:],
            head=training.ExactHead(options.penalty) if exact else training.StochasticHead(),
            validation=(pictures[tested:first], labels[tested:first]) if validated else None,
            patience=options.patience,
            schedule=schedule,
            augmentation=augmented if options.shift or options.flip else None,
            state=options.state,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            generator=torch.Generator().manual_seed(options.seed),
            test=(pictures[:tested], labels[:tested]),
            progress=True,
        )
    if options.model == "ckn":
        network.double()  # anchors are numbers; sweeps measure in double precision
    training.save(out, network, history.metadata(seed=options.seed, images=options.images) | _words(options, count))
    chance = _most_frequent(labels[:tested])
    print(f"test accuracy {history.test_accuracy[-1]:.1%} of {tested} images (always the same answer: {chance:.1%})")
    print(f"weights: {out}")
    return 0


def _network(options: Namespace, torus: bool, images: "Tensor") -> "nn.Module":
    """The network before training; ``images`` are those that it learns from."""
    import torch

    from stability.activations import ReLU, SmoothedReLU
    from stability.representations.ckn import CKN
    from stability.representations.cnn import cnn
    from stability.representations.lenet import FILTERS, LeNet

    if not torus:
        return LeNet(
            size=tuple(options.size),
            seed=options.seed,
            filters=tuple(options.widths or FILTERS),
            hidden=options.hidden,
            kernel_size=options.kernel_size,
            padding=options.padding,
            batch_normalisation=options.batch_normalisation,
        )
    widths = tuple(options.widths or default_widths(options.patch_sizes))
    kernels = ["arc-cosine-1"] if options.model == "cnn" else options.kernels
    scales = options.pooling_scales or default_scales(options.patch_sizes)
    chosen = architecture(options.patch_sizes, scales, options.subsampling, kernels, options)
    chosen = dataclasses.replace(chosen, front_end=resolve("front-end", options.front_end, FRONT_ENDS))
    chosen.check_size(tuple(options.size))
    activation = ReLU() if options.smoothing is None else SmoothedReLU(options.smoothing)
    rng = torch.Generator().manual_seed(options.seed)
    if options.model == "ckn":
        choice = resolve("anchors", options.anchors, ANCHORS)()
        found = CKN.fit(chosen, images, filters=widths, generator=rng, anchors=choice, ridge=options.ridge)
        return found.float().requires_grad_(True)
    return cnn(chosen, widths, activation=activation, generator=rng)


def _words(options: Namespace, count: int) -> dict[str, object]:
    return {"model": options.model, "count": count, "size": list(options.size), "test_share": options.test_share}


def _most_frequent(labels: "Tensor") -> float:
    return float(labels.bincount().max()) / len(labels)
