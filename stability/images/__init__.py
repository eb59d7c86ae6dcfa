"""Images on the torus: three sets, one preparation (fade the margin, band-limit)."""

from stability.images.blobs import Blobs
from stability.images.preparation import embed, fade, frame
from stability.images.registry import Dataset, dataset, load

__all__ = ["Blobs", "Dataset", "dataset", "embed", "fade", "frame", "load"]
