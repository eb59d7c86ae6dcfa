"""Representations of a sweep: built, learnt from images of the set, kept as plain tensors, built again from them."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stability import images as image_sets
from stability import plugins, training
from stability.activations import ReLU, SmoothedReLU
from stability.architecture import Architecture
from stability.representations.base import Representation
from stability.representations.ckn import CKN
from stability.representations.cnn import CNN, cnn
from stability.representations.convexified import ConvexifiedCNN
from stability.representations.gaussian_ckn import GaussianCKN
from stability.representations.gram import GramCKN
from stability.representations.lenet import LeNet
from stability.representations.linear import LinearGram
from stability.representations.maps import low_passed
from stability.representations.module import ModuleRepresentation
from stability.representations.ntk import GramNTK
from stability.representations.random_features import RandomFeatures
from stability.sweeps.build import load_images
from stability.sweeps.chunks import Model
from stability.sweeps.learning import TrainingSpec
from stability.sweeps.models import (
    CKNSpec,
    CNNSpec,
    ConvexifiedSpec,
    GaussianCKNSpec,
    GramSpec,
    LeNetSpec,
    LinearSpec,
    ModuleSpec,
    NTKSpec,
    RandomFeaturesSpec,
)
from stability.sweeps.spec import SweepSpec

State = dict[str, Tensor]
"""What a model has learnt, by name."""


def build(model: Model, spec: SweepSpec, state: Mapping[str, Tensor] | None = None) -> Representation:
    """The representation of a model.

    Args:
        model: which one.
        spec: the sweep that it belongs to.
        state: what ``fit`` gave, for a model that learns.

    Raises:
        ValueError: if the user's class is no module or refuses its arguments, or a checkpoint does not fit.
    """
    chosen, architecture = model.chosen, model.architecture
    match chosen:
        case GramSpec():
            return GramCKN(architecture)
        case NTKSpec():
            return GramNTK(architecture)
        case LinearSpec():
            return LinearGram(architecture)
        case CKNSpec():
            if state is not None:
                return CKN(architecture, [state[f"anchors.{k}"] for k in range(architecture.depth)], ridge=chosen.ridge)
            assert chosen.checkpoint is not None  # a CKN is fitted before it is built
            return _read_anchors(chosen, chosen.checkpoint, architecture, spec)
        case GaussianCKNSpec():
            assert state is not None  # so is its forerunner
            layers = range(architecture.depth)
            return GaussianCKN(
                architecture, [state[f"weights.{k}"] for k in layers], [state[f"masses.{k}"] for k in layers]
            )
        case ConvexifiedSpec():
            assert state is not None  # so is a convexified network
            return ConvexifiedCNN(CKN(architecture, [state["anchors.0"]]), state["matrix"], state["classes"])
        case RandomFeaturesSpec(widths=widths, seed=seed):
            black = torch.zeros(1, spec.images.channels, *spec.images.size)
            return RandomFeatures.draw(
                architecture,
                widths,
                channels=low_passed(architecture, black).shape[1],  # a front end may add some
                d=len(spec.images.size),
                generator=torch.Generator().manual_seed(seed),
            )
        case CNNSpec() | LeNetSpec():
            network = _network(model, spec)
            if state is not None:
                network.load_state_dict(dict(state))
            elif chosen.checkpoint is not None:
                training.load(chosen.checkpoint, network)
            if isinstance(chosen, CNNSpec):
                assert isinstance(network, CNN)
                return network
            return ModuleRepresentation(network, chosen.layers)
        case ModuleSpec():
            return _own(chosen, model)


def _fit_images(spec: SweepSpec, chosen: CKNSpec | GaussianCKNSpec) -> Tensor:
    """The images whose patches a network is fitted to.

    Raises:
        ValueError: if the set has fewer; the key is named.
    """
    try:
        return load_images(spec, chosen.images)
    except ValueError as error:
        raise ValueError(f"images of the representation {chosen.label!r}: {error}") from None


def fit(model: Model, spec: SweepSpec) -> State:
    """What a CKN or a trained network learns from the images of the set.

    Raises:
        ValueError: if the set has too few images or no classes.
    """
    chosen = model.chosen
    if isinstance(chosen, CKNSpec):
        rng = torch.Generator().manual_seed(chosen.seed)
        images = _fit_images(spec, chosen)
        found = CKN.fit(
            model.architecture,
            images,
            filters=chosen.filters,
            generator=rng,
            anchors=chosen.anchors.build(),
            ridge=chosen.ridge,
        )
        if chosen.training is not None:  # in single precision, as other networks are; what is learnt are numbers
            _train(found.float().requires_grad_(True), chosen.training, spec)
        return {f"anchors.{k}": anchors.detach().double() for k, anchors in enumerate(found.anchors)}
    if isinstance(chosen, GaussianCKNSpec):
        fitted = GaussianCKN.fit(
            model.architecture,
            _fit_images(spec, chosen),
            filters=chosen.filters,
            generator=torch.Generator().manual_seed(chosen.seed),
            pairs=chosen.pairs,
            iterations=chosen.iterations,
        )
        return {name: value.detach() for name, value in fitted.state_dict().items()}
    if isinstance(chosen, ConvexifiedSpec):
        rng = torch.Generator().manual_seed(chosen.seed)
        images, classes = training_set(spec, TrainingSpec(images=chosen.images))
        base = CKN.fit(model.architecture, images, filters=chosen.filters, generator=rng)
        net = ConvexifiedCNN.fit(base, images, classes, radius=chosen.radius)
        return {"anchors.0": base.anchors[0].detach(), "matrix": net.matrix, "classes": net.classes}
    assert isinstance(chosen, CNNSpec | LeNetSpec)
    assert chosen.training is not None
    network = _network(model, spec)
    _train(network, chosen.training, spec)
    return {name: value.detach() for name, value in network.state_dict().items()}


def _train(network: nn.Module, wanted: TrainingSpec, spec: SweepSpec) -> None:
    images, classes = training_set(spec, wanted)
    training.train(
        network,
        images,
        classes,
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        generator=torch.Generator().manual_seed(wanted.seed),
    )


def _read_anchors(chosen: CKNSpec, path: str, architecture: Architecture, spec: SweepSpec) -> CKN:
    """A CKN with the anchors of a file, in float64."""
    d, inputs = len(spec.images.size), spec.images.channels * _copies(architecture, len(spec.images.size))
    places = []
    for layer, count in zip(architecture.layers, chosen.filters, strict=True):
        places.append(torch.zeros(count, inputs * layer.patch_size**d, dtype=torch.float64))
        inputs = count
    network = CKN(architecture, places, ridge=chosen.ridge)
    training.load(path, network)
    return network


def _copies(architecture: Architecture, d: int) -> int:
    """Channels that the front end makes of one."""
    return 1 if architecture.front_end is None else architecture.front_end.apply(torch.zeros(1, *(4,) * d), d).shape[0]


def check_fit(model: Model, spec: SweepSpec) -> None:
    """Raise ``ValueError`` if the set has too few images, or too few patches, for what a model is to learn."""
    chosen = model.chosen
    if isinstance(chosen, CNNSpec | LeNetSpec):
        assert chosen.training is not None
        training_set(spec, chosen.training)
        _network(model, spec)
    elif isinstance(chosen, ConvexifiedSpec):
        training_set(spec, TrainingSpec(images=chosen.images))
    elif isinstance(chosen, CKNSpec | GaussianCKNSpec):
        if isinstance(chosen, CKNSpec) and chosen.training is not None:
            training_set(spec, chosen.training)
        images = _fit_images(spec, chosen)
        for count, spacing in zip(chosen.filters, model.architecture.spacings, strict=False):
            patches = len(images) * math.prod(n // spacing for n in spec.images.size)
            if count > patches:
                raise ValueError(
                    f"filters must be at most the number of training patches ({patches} from {len(images)} images), "
                    f"got {count}; raise 'images' or ask for fewer"
                )


def training_set(spec: SweepSpec, wanted: TrainingSpec) -> tuple[Tensor, Tensor]:
    """The images that a network learns from: the last ones of the set, never those that are measured.

    Raises:
        ValueError: if too few are left, or they are all of one class.
    """
    labels = image_sets.dataset(spec.images.name, root=spec.images.root).labels
    free = len(labels) - spec.images.count
    count = free if wanted.images is None else wanted.images
    if not 1 <= count <= free:
        raise ValueError(
            f"training images must be between 1 and {free} (the set {spec.images.name!r} without the measured ones), "
            f"got {count}; ask for fewer"
        )
    chosen = labels[-count:]
    if len(chosen.unique()) < 2:
        raise ValueError(
            f"training needs images of two classes or more, got one in {spec.images.name!r}; use 'fashion'"
        )
    return load_images(spec, len(labels))[-count:], chosen


def _network(model: Model, spec: SweepSpec) -> nn.Module:
    chosen, channels = model.chosen, spec.images.channels
    if isinstance(chosen, CNNSpec):
        return cnn(
            model.architecture,
            chosen.widths,
            activation=ReLU() if chosen.smoothing is None else SmoothedReLU(chosen.smoothing),
            channels=channels,
            d=len(spec.images.size),
            generator=torch.Generator().manual_seed(chosen.seed),
        )
    assert isinstance(chosen, LeNetSpec)
    if len(spec.images.size) != 2:
        raise ValueError(f"images must have two axes for a LeNet, got the size {spec.images.size}; use [28, 28]")
    return LeNet(
        channels=channels,
        size=spec.images.size,
        seed=chosen.seed,
        filters=chosen.filters,
        hidden=chosen.hidden,
        kernel_size=chosen.kernel_size,
        padding=chosen.padding,
        batch_normalisation=chosen.batch_normalisation,
    )


def _own(chosen: ModuleSpec, model: Model) -> Representation:
    kind = plugins.load_class(chosen.class_path)
    data = {"class_path": chosen.class_path, "init_args": chosen.init_args}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.seed)  # weights that the class draws from the global generator are the same every time
        if issubclass(kind, Representation):
            if chosen.layers or chosen.mean or chosen.std:
                raise ValueError(
                    f"layers, mean and std are for plain modules, got them for {chosen.class_path}; drop them"
                )
            more: dict[str, Any] = {}
            if "architecture" in inspect.signature(kind).parameters and "architecture" not in chosen.init_args:
                more["architecture"] = model.architecture
            found: Representation = plugins.build(data, Representation, **more)
        else:
            module: nn.Module = plugins.build(data, nn.Module)
            found = ModuleRepresentation(module, chosen.layers, mean=chosen.mean, std=chosen.std)
    if chosen.checkpoint is not None:
        inner = found.module if isinstance(found, ModuleRepresentation) else found
        training.load(chosen.checkpoint, inner)
    return found
