"""What representations of a specification have in common: a label, weights that are learnt, anchors that are chosen."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from stability.anchors import AnchorChoice, KMeans, Optimised, PivotedCholesky, RandomPatches
from stability.sweeps.parts import Positive, Seed, Spec

ANCHORS: dict[str, type[AnchorChoice]] = {
    "k_means": KMeans, "random_patches": RandomPatches, "pivoted_cholesky": PivotedCholesky, "optimised": Optimised,
}  # fmt: skip


class Named(Spec):
    """A representation with a label of its own: the column ``representation``."""

    name: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _default_name(self) -> "Named":
        if self.name == getattr(self, "kind", None):  # the same as none: equal specs are written equally
            object.__setattr__(self, "name", None)
        return self

    @property
    def label(self) -> str:
        """The name, or else the kind."""
        return self.name or str(getattr(self, "kind", ""))


class TrainingSpec(Spec):
    """``training.train``: Adam on labelled images of the same set, before anything is measured.

    Args:
        epochs: passes over the images.
        images: how many images of the set are learnt from, the LAST ones, so that the measured first ones are left
            out; None: all but the measured ones.
        batch_size: images per step.
        learning_rate: of Adam.
        seed: of the generator that draws the batches.
    """

    epochs: Annotated[int, Field(ge=1)] = 20
    images: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Positive = 1e-3
    seed: Seed = 0


class Trainable(Named):
    """A network with weights: drawn by its seed, then trained, or read from a checkpoint."""

    seed: Seed = 0
    training: TrainingSpec | None = None
    checkpoint: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Trainable":
        if self.training is not None and self.checkpoint is not None:
            raise ValueError("weights must come from training or from a checkpoint, got both; leave one out")
        return self


class AnchorsSpec(Spec):
    """How anchors are chosen: ``{kind: k_means}``, ``random_patches``, ``pivoted_cholesky`` or ``optimised``.

    Parameters are those of the class of ``stability.anchors``; None: its default, as if it were not written.

    Args:
        kind: name of the class.
        iterations: of ``k_means`` and ``optimised``.
        tolerance: of ``k_means``.
        candidates: of ``pivoted_cholesky``.
        pairs: of ``optimised``.
    """

    kind: Literal["k_means", "random_patches", "pivoted_cholesky", "optimised"] = "k_means"
    iterations: Annotated[int, Field(ge=1)] | None = None
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    candidates: Annotated[int, Field(ge=1)] | None = None
    pairs: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _own_parameters(self) -> "AnchorsSpec":
        own = {field.name: field.default for field in dataclasses.fields(ANCHORS[self.kind])}
        for name, value in self._given().items():
            if name not in own:
                raise ValueError(
                    f"{name} must be a parameter of {self.kind} ({', '.join(own) or 'none'}), got {value}; leave it out"
                )
            if value == own[name]:  # the same as none: equal specs are written equally
                object.__setattr__(self, name, None)
        return self

    @model_serializer
    def _written(self) -> dict[str, Any]:
        return {"kind": self.kind, **self._given()}

    def _given(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in ("iterations", "tolerance", "candidates", "pairs")}
        return {name: value for name, value in found.items() if value is not None}

    def build(self) -> AnchorChoice:
        """The choice."""
        return ANCHORS[self.kind](**self._given())
