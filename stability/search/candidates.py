"""``Candidates``: fields that are all tried, where there are few parameters."""

import abc

import torch
from torch import Tensor

from stability.deformations.base import Deformation
from stability.deformations.stack import stack
from stability.search.objectives import Score
from stability.search.problem import CHUNK
from stability.warps.base import Warp


class Candidates(abc.ABC):
    """Finitely many fields of C(a, b), one batch."""

    @abc.abstractmethod
    def fields(self, size: tuple[int, ...], displacement_norm: float, jacobian_norm: float) -> Deformation:
        """Their batch, shape ``(K,)``."""


@torch.no_grad()
def best_of(
    candidates: Candidates, score: Score, images: Tensor, warp: Warp, displacement_norm: Tensor, jacobian_norm: Tensor
) -> tuple[Deformation, Tensor, int]:
    """The best candidate of every image.

    Returns:
        Fields, batch shape ``(B,)``, their objectives ``(B,)``, and how many were tried.
    """
    chosen, values, count = [], [], 0
    for i, image in enumerate(images):
        norms = float(displacement_norm[i]), float(jacobian_norm[i])
        fields = candidates.fields(tuple(image.shape[1:]), *norms).to(device=images.device)
        rows = torch.arange(len(fields.mean), device=images.device)
        owner = torch.full_like(rows, i)
        tried = torch.cat([score(warp(image[None], fields[part]), owner[part]) for part in rows.split(CHUNK)])
        if not bool(torch.isfinite(tried).all()):
            raise ValueError(
                f"the objective must be finite, got NaN or infinite values for image {i}; look for a root, a "
                "logarithm or a division by 0 in the representation or the head"
            )
        chosen.append(fields[tried.argmax()])
        values.append(tried.amax())
        count += len(tried)
    return stack(chosen), torch.stack(values), count
