"""Measure how far a representation moves when an image is deformed, next to what the theory allows.

The public names, in the order in which data flows. They load on first use (PEP 562): ``import stability`` loads
neither torch nor kornia nor matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = ("grid", "images", "kernels", "activations", "front_ends", "anchors", "bounds", "search", "training")
_EXPORTS = {
    # deformations
    "Deformation": "stability.deformations.base",
    "Translation": "stability.deformations.translation",
    "AffineField": "stability.deformations.affine",
    "FourierField": "stability.deformations.fourier",
    "GradientField": "stability.deformations.gradient",
    "DivergenceFreeField": "stability.deformations.divergence_free",
    "GaussianField": "stability.deformations.gaussian",
    "MixedField": "stability.deformations.mixed",
    "MaxEntropyField": "stability.deformations.max_entropy",
    "SplineField": "stability.deformations.bspline",
    "PiecewiseLinearField": "stability.deformations.piecewise_linear",
    "BumpField": "stability.deformations.bump",
    "LocalAffineField": "stability.deformations.local_affine",
    "ThinPlateField": "stability.deformations.thin_plate",
    "FlowField": "stability.deformations.flow",
    "CompactField": "stability.deformations.compact",
    "control": "stability.deformations.control",
    "reachable": "stability.deformations.control",
    "ShortfallWarning": "stability.deformations.control",
    "compose": "stability.deformations.composition",
    "inverse": "stability.deformations.inverse",
    "FixedPoint": "stability.deformations.inverse",
    "Newton": "stability.deformations.inverse",
    "push_points": "stability.deformations.points",
    "push_boxes": "stability.deformations.points",
    "push_masks": "stability.deformations.points",
    "stack": "stability.deformations.stack",
    "load_deformation": "stability.deformations.files",
    # warps
    "Warp": "stability.warps.base",
    "BandLimitedWarp": "stability.warps.band_limited",
    "SplineWarp": "stability.warps.spline",
    "BilinearWarp": "stability.warps.bilinear",
    "IndexWarp": "stability.warps.index",
    "TangentPerturbation": "stability.warps.tangent",
    "WarpOperator": "stability.warps.base",
    "MatrixProducts": "stability.warps.evaluation",
    "NonuniformFFT": "stability.warps.nonuniform",
    "interpolation_error": "stability.warps.error",
    "recommend_warp": "stability.warps.recommend",
    # augmentation
    "Pixels": "stability.augmentation.strength",
    "Share": "stability.augmentation.strength",
    "DeformationTransform": "stability.augmentation.transform",
    "RandomDeformation": "stability.augmentation.random_deformation",
    # representations
    "Architecture": "stability.architecture",
    "Layer": "stability.architecture",
    "Periodic": "stability.boundaries",
    "Reflect": "stability.boundaries",
    "Zero": "stability.boundaries",
    "Representation": "stability.representations.base",
    "ExplicitRepresentation": "stability.representations.explicit",
    "GramCKN": "stability.representations.gram",
    "BandedCKN": "stability.representations.banded",
    "GramNTK": "stability.representations.ntk",
    "LinearGram": "stability.representations.linear",
    "CKN": "stability.representations.ckn",
    "ConvolutionalForm": "stability.representations.convolutional_form",
    "GaussianCKN": "stability.representations.gaussian_ckn",
    "subspaces": "stability.representations.subspaces",
    "ConvexifiedCNN": "stability.representations.convexified",
    "RandomFeatures": "stability.representations.random_features",
    "cnn": "stability.representations.cnn",
    "CNN": "stability.representations.cnn",
    "LeNet": "stability.representations.lenet",
    "ModuleRepresentation": "stability.representations.module",
    "kernel_matrix": "stability.representations.matrix",
    "recommend_ckn": "stability.representations.recommend",
    "CKNRecommendation": "stability.representations.recommend",
    "CKNTransformer": "stability.estimators",
    # bounds
    "closed_form": "stability.bounds.closed_form",
    "ladder": "stability.ladders",
    "Ladder": "stability.ladders",
    "Rung": "stability.bounds.rung",
    "FieldCertificates": "stability.certificates.fields",
    "OperatorNorms": "stability.operator_norms.norms",
    # predictors of the kernel's Hilbert space
    "Predictor": "stability.rkhs.predictor",
    "KernelRidge": "stability.rkhs.methods",
    "SupportVectorMachine": "stability.rkhs.methods",
    "cross_validate": "stability.rkhs.validation",
    # recovery
    "Decoder": "stability.recovery.decoder",
    "PreImage": "stability.recovery.pre_image",
    "invert": "stability.recovery.inversion",
    "Inversion": "stability.recovery.inversion",
    # search
    "linearised": "stability.search",
    "smallest_deformation": "stability.search",
    "worst_case": "stability.search",
    "worst_case_curve": "stability.search",
    # certified classification
    "robustness_radius": "stability.robustness",
    "RobustnessRadii": "stability.robustness",
    "AffineHead": "stability.robustness",
    # sweeps
    "SweepSpec": "stability.sweeps.spec",
    "ImagesSpec": "stability.sweeps.spec",
    "FourierSpec": "stability.sweeps.spec",
    "TranslationSpec": "stability.sweeps.spec",
    "GramSpec": "stability.sweeps.spec",
    "LinearSpec": "stability.sweeps.spec",
    "NTKSpec": "stability.sweeps.spec",
    "CKNSpec": "stability.sweeps.spec",
    "RandomFeaturesSpec": "stability.sweeps.spec",
    "ConvexifiedSpec": "stability.sweeps.spec",
    "GaussianCKNSpec": "stability.sweeps.spec",
    "CNNSpec": "stability.sweeps.spec",
    "LeNetSpec": "stability.sweeps.spec",
    "ModuleSpec": "stability.sweeps.spec",
    "TrainingSpec": "stability.sweeps.spec",
    "CompactSpec": "stability.sweeps.spec",
    "GradientSpec": "stability.sweeps.spec",
    "DivergenceFreeSpec": "stability.sweeps.spec",
    "GaussianSpec": "stability.sweeps.spec",
    "MaxEntropySpec": "stability.sweeps.spec",
    "SplineFieldSpec": "stability.sweeps.spec",
    "PiecewiseLinearSpec": "stability.sweeps.spec",
    "SaturatedSpec": "stability.sweeps.spec",
    "SearchSpec": "stability.sweeps.spec",
    "MixedSpec": "stability.sweeps.spec",
    "BumpSpec": "stability.sweeps.spec",
    "LocalAffineSpec": "stability.sweeps.spec",
    "AffineSpec": "stability.sweeps.spec",
    "ThinPlateSpec": "stability.sweeps.spec",
    "FlowSpec": "stability.sweeps.spec",
    "BandLimitedWarpSpec": "stability.sweeps.spec",
    "SplineWarpSpec": "stability.sweeps.spec",
    "BilinearWarpSpec": "stability.sweeps.spec",
    "IndexWarpSpec": "stability.sweeps.spec",
    "TangentSpec": "stability.sweeps.spec",
    "sweep": "stability.sweeps.run",
    "run": "stability.sweeps.run",
    "Store": "stability.sweeps.store",
}

__all__ = ["__version__", *_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"stability.{name}")
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    import difflib

    nearest = difflib.get_close_matches(name, __all__, n=1)
    advice = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise AttributeError(f"module 'stability' has no attribute {name!r}{advice}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from stability import activations as activations
    from stability import anchors as anchors
    from stability import bounds as bounds
    from stability import front_ends as front_ends
    from stability import grid as grid
    from stability import images as images
    from stability import kernels as kernels
    from stability import search as search
    from stability import training as training
    from stability.architecture import Architecture as Architecture
    from stability.architecture import Layer as Layer
    from stability.augmentation.random_deformation import RandomDeformation as RandomDeformation
    from stability.augmentation.strength import Pixels as Pixels
    from stability.augmentation.strength import Share as Share
    from stability.augmentation.transform import DeformationTransform as DeformationTransform
    from stability.boundaries import Periodic as Periodic
    from stability.boundaries import Reflect as Reflect
    from stability.boundaries import Zero as Zero
    from stability.bounds.closed_form import closed_form as closed_form
    from stability.bounds.rung import Rung as Rung
    from stability.certificates.fields import FieldCertificates as FieldCertificates
    from stability.deformations.affine import AffineField as AffineField
    from stability.deformations.base import Deformation as Deformation
    from stability.deformations.bspline import SplineField as SplineField
    from stability.deformations.bump import BumpField as BumpField
    from stability.deformations.compact import CompactField as CompactField
    from stability.deformations.composition import compose as compose
    from stability.deformations.control import ShortfallWarning as ShortfallWarning
    from stability.deformations.control import control as control
    from stability.deformations.control import reachable as reachable
    from stability.deformations.divergence_free import DivergenceFreeField as DivergenceFreeField
    from stability.deformations.files import load_deformation as load_deformation
    from stability.deformations.flow import FlowField as FlowField
    from stability.deformations.fourier import FourierField as FourierField
    from stability.deformations.gaussian import GaussianField as GaussianField
    from stability.deformations.gradient import GradientField as GradientField
    from stability.deformations.inverse import FixedPoint as FixedPoint
    from stability.deformations.inverse import Newton as Newton
    from stability.deformations.inverse import inverse as inverse
    from stability.deformations.local_affine import LocalAffineField as LocalAffineField
    from stability.deformations.max_entropy import MaxEntropyField as MaxEntropyField
    from stability.deformations.mixed import MixedField as MixedField
    from stability.deformations.piecewise_linear import PiecewiseLinearField as PiecewiseLinearField
    from stability.deformations.points import push_boxes as push_boxes
    from stability.deformations.points import push_masks as push_masks
    from stability.deformations.points import push_points as push_points
    from stability.deformations.stack import stack as stack
    from stability.deformations.thin_plate import ThinPlateField as ThinPlateField
    from stability.deformations.translation import Translation as Translation
    from stability.estimators import CKNTransformer as CKNTransformer
    from stability.ladders import Ladder as Ladder
    from stability.ladders import ladder as ladder
    from stability.operator_norms.norms import OperatorNorms as OperatorNorms
    from stability.recovery.decoder import Decoder as Decoder
    from stability.recovery.inversion import Inversion as Inversion
    from stability.recovery.inversion import invert as invert
    from stability.recovery.pre_image import PreImage as PreImage
    from stability.representations.banded import BandedCKN as BandedCKN
    from stability.representations.base import Representation as Representation
    from stability.representations.ckn import CKN as CKN
    from stability.representations.cnn import CNN as CNN
    from stability.representations.cnn import cnn as cnn
    from stability.representations.convexified import ConvexifiedCNN as ConvexifiedCNN
    from stability.representations.convolutional_form import ConvolutionalForm as ConvolutionalForm
    from stability.representations.explicit import ExplicitRepresentation as ExplicitRepresentation
    from stability.representations.gaussian_ckn import GaussianCKN as GaussianCKN
    from stability.representations.gram import GramCKN as GramCKN
    from stability.representations.lenet import LeNet as LeNet
    from stability.representations.linear import LinearGram as LinearGram
    from stability.representations.matrix import kernel_matrix as kernel_matrix
    from stability.representations.module import ModuleRepresentation as ModuleRepresentation
    from stability.representations.ntk import GramNTK as GramNTK
    from stability.representations.random_features import RandomFeatures as RandomFeatures
    from stability.representations.recommend import CKNRecommendation as CKNRecommendation
    from stability.representations.recommend import recommend_ckn as recommend_ckn
    from stability.representations.subspaces import subspaces as subspaces
    from stability.rkhs.methods import KernelRidge as KernelRidge
    from stability.rkhs.methods import SupportVectorMachine as SupportVectorMachine
    from stability.rkhs.predictor import Predictor as Predictor
    from stability.rkhs.validation import cross_validate as cross_validate
    from stability.robustness import AffineHead as AffineHead
    from stability.robustness import RobustnessRadii as RobustnessRadii
    from stability.robustness import robustness_radius as robustness_radius
    from stability.search import linearised as linearised
    from stability.search import smallest_deformation as smallest_deformation
    from stability.search import worst_case as worst_case
    from stability.search import worst_case_curve as worst_case_curve
    from stability.sweeps.run import run as run
    from stability.sweeps.run import sweep as sweep
    from stability.sweeps.spec import AffineSpec as AffineSpec
    from stability.sweeps.spec import BandLimitedWarpSpec as BandLimitedWarpSpec
    from stability.sweeps.spec import BilinearWarpSpec as BilinearWarpSpec
    from stability.sweeps.spec import BumpSpec as BumpSpec
    from stability.sweeps.spec import CKNSpec as CKNSpec
    from stability.sweeps.spec import CNNSpec as CNNSpec
    from stability.sweeps.spec import CompactSpec as CompactSpec
    from stability.sweeps.spec import ConvexifiedSpec as ConvexifiedSpec
    from stability.sweeps.spec import DivergenceFreeSpec as DivergenceFreeSpec
    from stability.sweeps.spec import FlowSpec as FlowSpec
    from stability.sweeps.spec import FourierSpec as FourierSpec
    from stability.sweeps.spec import GaussianCKNSpec as GaussianCKNSpec
    from stability.sweeps.spec import GaussianSpec as GaussianSpec
    from stability.sweeps.spec import GradientSpec as GradientSpec
    from stability.sweeps.spec import GramSpec as GramSpec
    from stability.sweeps.spec import ImagesSpec as ImagesSpec
    from stability.sweeps.spec import IndexWarpSpec as IndexWarpSpec
    from stability.sweeps.spec import LeNetSpec as LeNetSpec
    from stability.sweeps.spec import LinearSpec as LinearSpec
    from stability.sweeps.spec import LocalAffineSpec as LocalAffineSpec
    from stability.sweeps.spec import MaxEntropySpec as MaxEntropySpec
    from stability.sweeps.spec import MixedSpec as MixedSpec
    from stability.sweeps.spec import ModuleSpec as ModuleSpec
    from stability.sweeps.spec import NTKSpec as NTKSpec
    from stability.sweeps.spec import PiecewiseLinearSpec as PiecewiseLinearSpec
    from stability.sweeps.spec import RandomFeaturesSpec as RandomFeaturesSpec
    from stability.sweeps.spec import SaturatedSpec as SaturatedSpec
    from stability.sweeps.spec import SearchSpec as SearchSpec
    from stability.sweeps.spec import SplineFieldSpec as SplineFieldSpec
    from stability.sweeps.spec import SplineWarpSpec as SplineWarpSpec
    from stability.sweeps.spec import SweepSpec as SweepSpec
    from stability.sweeps.spec import TangentSpec as TangentSpec
    from stability.sweeps.spec import ThinPlateSpec as ThinPlateSpec
    from stability.sweeps.spec import TrainingSpec as TrainingSpec
    from stability.sweeps.spec import TranslationSpec as TranslationSpec
    from stability.sweeps.store import Store as Store
    from stability.warps.band_limited import BandLimitedWarp as BandLimitedWarp
    from stability.warps.base import Warp as Warp
    from stability.warps.base import WarpOperator as WarpOperator
    from stability.warps.bilinear import BilinearWarp as BilinearWarp
    from stability.warps.error import interpolation_error as interpolation_error
    from stability.warps.evaluation import MatrixProducts as MatrixProducts
    from stability.warps.index import IndexWarp as IndexWarp
    from stability.warps.nonuniform import NonuniformFFT as NonuniformFFT
    from stability.warps.recommend import recommend_warp as recommend_warp
    from stability.warps.spline import SplineWarp as SplineWarp
    from stability.warps.tangent import TangentPerturbation as TangentPerturbation
