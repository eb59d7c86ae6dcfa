"""``CKNTransformer``: the features of a finite CKN as a scikit-learn transformer."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.exceptions import NotFittedError
except ImportError as error:
    raise ImportError(
        "CKNTransformer needs scikit-learn, which is not installed; pip install 'deformation-stability[sklearn]'"
    ) from error

from stability.anchors import AnchorChoice, KMeans
from stability.architecture import Architecture
from stability.grid import check_size
from stability.representations.ckn import CKN, TRAINING_PATCHES

K_MEANS = KMeans()
ARCHITECTURE = Architecture.dyadic(depth=2)


class CKNTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""X -> sqrt(cell area) Phi(x), a row for each image: ``CKN.fit`` and its features, for a ``Pipeline``.

    Inner products of rows are the network's kernel. Classes play no part. The network itself is the attribute ``ckn_``
    after ``fit``, an ``nn.Module`` for ladders, sweeps and training.

    Args:
        architecture: of the network, by default ``Architecture.dyadic(depth=2)``.
        filters: number of anchors of every layer.
        anchors: how they are chosen.
        size: ``(H, W)`` or ``(N,)`` of images that come as rows ``(n, C H W)``, channels first; None: images come as
            arrays ``(n, C, *size)``.
        ridge: as in ``CKN``.
        patches: of each layer, from which anchors are chosen.
        random_state: seed of the generator, an integer.
        dtype: ``np.float32`` or ``np.float64``, in which the network computes.

    Reference: Mairal 2016; Pedregosa et al. 2011.

    >>> import stability as st
    >>> data = st.images.dataset("fashion")
    >>> x = data.images[:40, :, ::2, ::2][..., 1:13, 1:13].numpy()
    >>> features = CKNTransformer(filters=(4, 8)).fit_transform(x)
    >>> features.shape
    (40, 72)
    """

    ckn_: CKN

    def __init__(
        self,
        architecture: Architecture = ARCHITECTURE,
        filters: tuple[int, ...] = (64, 128),
        *,
        anchors: AnchorChoice = K_MEANS,
        size: tuple[int, ...] | None = None,
        ridge: float = 0.0,
        patches: int = TRAINING_PATCHES,
        random_state: int = 0,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        self.architecture, self.filters, self.anchors, self.size = architecture, filters, anchors, size
        self.ridge, self.patches, self.random_state, self.dtype = ridge, patches, random_state, dtype

    def fit(self, X: NDArray[Any], y: object = None) -> "CKNTransformer":
        """Choose the anchors among patches of the images.

        Args:
            X: images, numbers.
            y: not used.

        Raises:
            ValueError: if X has not the shape that ``size`` says, or what ``CKN.fit`` refuses.
        """
        images = self._images(X)
        self.ckn_ = CKN.fit(
            self.architecture,
            images,
            filters=self.filters,
            generator=torch.Generator().manual_seed(self.random_state),
            anchors=self.anchors,
            ridge=self.ridge,
            patches=self.patches,
        )
        self.n_features_in_ = int(math.prod(images.shape[1:]))
        self._shape = tuple(images.shape[1:])
        self._n_features_out = self._features(images[:1]).shape[1]  # for get_feature_names_out
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """Features ``(n, K)`` in the transformer's dtype.

        Raises:
            NotFittedError: before ``fit``.
            ValueError: for images of another shape.
        """
        if not hasattr(self, "ckn_"):
            raise NotFittedError(
                "CKNTransformer must be fitted before it transforms, got an unfitted one; call fit first"
            )
        images = self._images(X)
        if tuple(images.shape[1:]) != self._shape:
            raise ValueError(
                f"X must hold images of shape {self._shape} as in fit, got {tuple(images.shape[1:])}; fit again"
            )
        features: NDArray[Any] = self._features(images).numpy()
        return features

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = self.ckn_(images)
        return math.sqrt(self.ckn_.cell_area(self._shape[1:], features)) * features.flatten(1)

    def _images(self, X: NDArray[Any]) -> torch.Tensor:
        array = np.asarray(X)
        if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
            raise ValueError(f"X must hold real numbers, got {array.dtype}; convert it")
        images = torch.from_numpy(np.ascontiguousarray(array, dtype=self.dtype))
        if self.size is not None:
            size = check_size(self.size)
            if images.ndim != 2 or images.shape[1] % math.prod(size):
                raise ValueError(
                    f"X must be rows of C x {' x '.join(map(str, size))} numbers, got shape {array.shape}; "
                    "leave size out for arrays (n, C, H, W)"
                )
            return images.unflatten(1, (-1, *size))
        if images.ndim not in (3, 4):
            raise ValueError(
                f"X must be (n, C, H, W) or (n, C, N), got shape {array.shape}; give size for images as rows"
            )
        return images
