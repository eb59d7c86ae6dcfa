"""Representations in a specification: what is measured for every architecture."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from stability import plugins
from stability.architecture import Architecture
from stability.representations.exponents import exponents
from stability.representations.random_maps import random_map
from stability.sweeps.learning import AnchorsSpec, Named, Trainable
from stability.sweeps.parts import Counts, LayerNames, Positive, Seed


class GramSpec(Named):
    """The exact CKN, ``GramCKN(architecture)``."""

    kind: Literal["gram"] = "gram"


class NTKSpec(Named):
    """The neural tangent kernel, ``GramNTK(architecture)``, for kernels ``arc_cosine`` of degree 1 (ReLU)."""

    kind: Literal["ntk"] = "ntk"


class LinearSpec(Named):
    """The linear kernel of the same architecture, ``LinearGram(architecture)``: the control."""

    kind: Literal["linear"] = "linear"


class RandomFeaturesSpec(Named):
    """``RandomFeatures.draw(architecture, widths)``: random layers, for kernels of the architecture that have them.

    Args:
        widths: channels of every layer, even numbers.
        seed: of the generator that draws the weights.
    """

    kind: Literal["random_features"] = "random_features"
    widths: Counts
    seed: Seed = 0

    @field_validator("widths")
    @classmethod
    def _even(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width % 2 for width in widths):
            raise ValueError(f"widths of random features must be even, got {widths}; two channels for a random vector")
        return widths

    def check(self, architecture: Architecture) -> None:
        """Raise ``ValueError`` for a kernel without random features."""
        for layer in architecture.layers:
            random_map(layer.kernel)


class ConvexifiedSpec(Named):
    """``ConvexifiedCNN.fit`` on a CKN of one layer, learnt from labelled images of the same set.

    Args:
        filters: number of anchors of the layer, ``(m,)``.
        radius: of the nuclear-norm ball.
        images: how many images of the set are learnt from, the LAST ones; None: all but the measured ones.
        seed: of the generator that draws patches and starts k-means.
    """

    kind: Literal["convexified"] = "convexified"
    filters: Counts
    radius: Positive = 1.0
    images: Annotated[int, Field(ge=1)] | None = None
    seed: Seed = 0

    def check(self, architecture: Architecture) -> None:
        """Raise ``ValueError`` for an architecture of several layers."""
        if architecture.depth != 1:
            raise ValueError(f"a convexified network must have one layer, got {architecture.depth}; leave it out")


class CKNSpec(Trainable):
    """The finite-dimensional CKN, ``CKN.fit(architecture, images, filters=...)``, on images of the same set.

    Args:
        filters: number of anchors of every layer.
        images: how many images of the set the anchors are chosen from; at most what the set has.
        ridge: added to the anchors' Gram matrix, >= 0; 0: true projections.
        anchors: how they are chosen.
        seed: of the generator that draws patches and starts the choice.
        training: then learns the anchors with labels; take a ridge of 1e-3 or so. None: they stay as chosen.
        checkpoint: safetensors file with the anchors, as ``stability train --model ckn`` writes it.
    """

    kind: Literal["ckn"] = "ckn"
    filters: Counts
    images: Annotated[int, Field(ge=1)] = 32
    ridge: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    anchors: AnchorsSpec = AnchorsSpec()


class GaussianCKNSpec(Named):
    """``GaussianCKN``, the first CKN: sums of Gaussians fitted to exponential kernels on images of the same set.

    Args:
        filters: number of Gaussians of every layer.
        images: how many images of the set the patches are from; at most what the set has.
        pairs: of patches on which the error is measured.
        iterations: of L-BFGS.
        seed: of the generator that draws patches and starts k-means.
    """

    kind: Literal["gaussian_ckn"] = "gaussian_ckn"
    filters: Counts
    images: Annotated[int, Field(ge=1)] = 32
    pairs: Annotated[int, Field(ge=1)] = 20_000
    iterations: Annotated[int, Field(ge=1)] = 50
    seed: Seed = 0

    def check(self, architecture: Architecture) -> None:
        """Raise ``ValueError`` for other kernels than exponential ones."""
        exponents(architecture)


class CNNSpec(Trainable):
    """``cnn(architecture, widths)``: a CNN with the patches, poolings and strides of the architecture.

    Args:
        widths: channels of every layer.
        smoothing: None: ReLU; c > 0: the smoothed ReLU of that parameter.
    """

    kind: Literal["cnn"] = "cnn"
    widths: Counts
    smoothing: Positive | None = None


class LeNetSpec(Trainable):
    """``LeNet``, a small ordinary CNN with max-pooling; several layers are measured in one pass.

    Args:
        layers: names of submodules whose outputs are measured.
        filters: channels of the two convolutions.
        hidden: hidden units.
        kernel_size: side of the filters.
        padding: zeros around the maps before a convolution.
        batch_normalisation: of both convolutions.
    """

    kind: Literal["lenet"] = "lenet"
    layers: LayerNames = ("conv1", "conv2", "hidden", "classifier")
    filters: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (6, 16)
    hidden: Annotated[int, Field(ge=1)] = 120
    kernel_size: Annotated[int, Field(ge=1)] = 5
    padding: Annotated[int, Field(ge=0)] = 0
    batch_normalisation: bool = False


class ModuleSpec(Named):
    """The user's own class: a torch module, measured at named layers, or a ``Representation``.

    Args:
        class_path: package.module.Class, built with ``init_args``; a ``Representation`` that takes an ``architecture``
            is given that of the sweep.
        init_args: arguments by name.
        layers: names of submodules whose outputs are measured; None: the module's own output.
        mean: subtracted from every channel of the image, then divided by
        std: (for a module).
        checkpoint: safetensors file with the module's weights.
        seed: of torch's generators while the class is built, so that its weights are the same in every run.
    """

    kind: Literal["module"] = "module"
    class_path: str
    init_args: dict[str, Any] = {}
    layers: LayerNames | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    checkpoint: str | None = None
    seed: Seed = 0

    @field_validator("class_path")
    @classmethod
    def _found(cls, path: str) -> str:
        plugins.load_class(path)
        return path

    @property
    def label(self) -> str:
        """The name, or else that of the class."""
        return self.name or self.class_path.rpartition(".")[2]


KINDS = ("gram", "ntk", "linear", "ckn", "gaussian_ckn", "random_features", "convexified", "cnn", "lenet", "module")
MODULES = ("lenet", "module")
"""Kinds without an architecture of the theory: ordinary networks on ordinary pictures."""
_SETTINGS = tuple(name for name in ModuleSpec.model_fields if name not in ("kind", *plugins.CLASS_KEYS))


def _own(data: Any) -> Any:
    data = plugins.as_class_path(data, plugins.REPRESENTATIONS, KINDS, _SETTINGS)
    return {"kind": "module", **data} if isinstance(data, dict) and "class_path" in data else data


RepresentationSpec = Annotated[
    Annotated[
        GramSpec
        | NTKSpec
        | LinearSpec
        | CKNSpec
        | GaussianCKNSpec
        | RandomFeaturesSpec
        | ConvexifiedSpec
        | CNNSpec
        | LeNetSpec
        | ModuleSpec,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_own),
]


def counts(chosen: Any) -> tuple[int, ...] | None:
    """Anchors or channels of every layer of a finite network with an architecture; None for other kinds."""
    if isinstance(chosen, CKNSpec | GaussianCKNSpec | ConvexifiedSpec):
        return chosen.filters
    return chosen.widths if isinstance(chosen, CNNSpec | RandomFeaturesSpec) else None


def check_layers(chosen: Any, architecture: Architecture) -> None:
    """Raise ``ValueError`` unless a network has numbers of filters for every layer, and layers that it can have."""
    given = counts(chosen)
    if given is not None and len(given) != architecture.depth:
        name = "widths" if isinstance(chosen, CNNSpec | RandomFeaturesSpec) else "filters"
        raise ValueError(
            f"{name} must have one number per layer ({architecture.depth}), got {given}; use for example "
            f"{(64, 128, 256)[: architecture.depth]}"
        )
    if isinstance(chosen, RandomFeaturesSpec | ConvexifiedSpec | GaussianCKNSpec):
        chosen.check(architecture)
