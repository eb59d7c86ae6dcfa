"""Patches on which the anchors of a layer are chosen."""

import math

import torch
from torch import Tensor

from stability.architecture import Architecture
from stability.grid import spatial_size
from stability.operators.patches import extract_patches
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.maps import low_passed

BATCH = 32
"""Images whose patches are held at a time."""
ZERO = 1e-6
"""Of the longest patch: shorter ones have no direction worth learning."""


def sampled_patches(
    architecture: Architecture,
    k: int,
    images: Tensor,
    below: ExplicitRepresentation | None,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """At most ``count`` unit patches of the input of layer k + 1, drawn from all positions of all images.

    The images pass a few at a time; only the patches are held. Zero patches are left out.

    Args:
        architecture: the network.
        k: the layer's index, 0 ... n - 1.
        images: ``(B, C, *size)``.
        below: the layers before it, None for k = 0.
        count: how many are drawn.
        generator: source of randomness.

    Returns:
        ``(N, p)``, N <= count, in the images' dtype, in random order.
    """
    size = spatial_size(images)
    per_image = math.prod(n // architecture.spacings[k] for n in size)
    drawn = torch.randperm(len(images) * per_image, generator=generator, device=generator.device)[:count]
    drawn = drawn.to(images.device)
    order = drawn.argsort()
    rows, chosen = [], drawn[order]
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            ends = torch.searchsorted(chosen, chosen.new_tensor([start, start + len(part)]) * per_image)
            inside = chosen[int(ends[0]) : int(ends[1])] - start * per_image
            if len(inside):
                maps = low_passed(architecture, part) if below is None else below(part)
                patches = extract_patches(
                    maps, architecture.layers[k].patch_size, len(size), boundary=architecture.boundary
                ).flatten(2)
                rows.append(patches[inside // per_image, :, inside % per_image])
    patches = torch.cat(rows)[order.argsort()]
    norms = patches.norm(dim=1, keepdim=True)
    return (patches / norms.clamp_min(torch.finfo(patches.dtype).tiny))[norms[:, 0] > ZERO * norms.max()]
