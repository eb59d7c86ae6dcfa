r"""A finite CKN written as an ordinary network: convolution, pointwise function, pooling, 1 x 1 convolution."""

import math

import torch
from torch import Tensor, nn

from stability.architecture import Architecture
from stability.boundaries import Periodic
from stability.grid import check_images, spatial_size
from stability.kernels import Kernel
from stability.representations.ckn import CKN
from stability.representations.maps import low_passed, pooled


class KernelActivation(nn.Module):
    """kappa of the responses over the patch's norm, times the norm: |z| kappa(w / |z|), pointwise.

    Args:
        kernel: kappa.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, responses: Tensor, norms: Tensor) -> Tensor:
        """``(B, m, *size)`` for responses w of that shape and norms |z| ``(B, 1, *size)``."""
        shown = norms > 0
        cosine = responses / torch.where(shown, norms, 1.0)
        return self.kernel(cosine.clamp(-1.0, 1.0)) * torch.where(shown, norms, 0.0)


class ConvolutionalForm(nn.Module):
    r"""x -> A_0 F x, then in each layer W * y, |z| kappa(. / |z|), A with its stride, and R * : the map of a ``CKN``.

    W are the anchors over e^(d/2) as the filters of an e x e convolution, |z| comes from a convolution of the squared
    map with ones over e^d, and R = kappa(Z^T Z)^(-1/2) are the filters of a 1 x 1 convolution. The modules are torch's
    own (``filters``, ``roots``: ``nn.Conv2d`` or ``nn.Conv1d``, circular or zero padding, no bias), so that the network
    can be exported, pruned or inspected as any other. A copy: what is trained here does not come back.

    Args:
        network: at refinement 1.
        d: 2 for images, 1 for signals.

    Raises:
        ValueError: for a refined network, or anchors that do not fit.

    Reference: Mairal 2016, section 3 (relation to convolutional networks).

    >>> from stability.images import load
    >>> x = load("fashion", count=4, size=(16, 16))
    >>> ckn = CKN.fit(Architecture.dyadic(depth=2), x, filters=(8, 16), generator=torch.Generator().manual_seed(0))
    >>> form = ConvolutionalForm(ckn)
    >>> torch.allclose(form(x), ckn(x), rtol=1e-12), form.filters[1]
    (True, Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), padding=same, bias=False, padding_mode=circular))
    """

    architecture: Architecture

    def __init__(self, network: CKN, d: int = 2) -> None:
        super().__init__()
        if network.refinement != 1:
            raise ValueError(f"network must be at refinement 1, got {network.refinement}; pass the network itself")
        if d not in (1, 2):
            raise ValueError(f"d must be 1 or 2, got {d!r}; use d=2 for images and d=1 for signals")
        self.architecture, self.d = network.architecture, d
        self.filters, self.roots, self.norms, self.activations = (nn.ModuleList() for _ in range(4))
        for k, layer in enumerate(self.architecture.layers):
            with torch.no_grad():
                units, root = network.kernel_map(k)
            e, positions = layer.patch_size, layer.patch_size**d
            if units.shape[1] % positions:
                raise ValueError(
                    f"anchors of layer {k + 1} must have a multiple of {positions} entries for patches of side {e}, "
                    f"got {units.shape[1]}; is d={d} that of the images?"
                )
            kernel = units.unflatten(1, (*(e,) * d, -1)).movedim(-1, 1) / math.sqrt(positions)
            mode = "circular" if isinstance(self.architecture.boundary, Periodic) else "zeros"
            self.filters.append(_convolution(kernel, mode))
            self.norms.append(_convolution(kernel.new_full((1, 1, *(e,) * d), 1.0 / positions), mode))
            self.roots.append(_convolution(root.view(*root.shape, *(1,) * d), mode))
            self.activations.append(KernelActivation(layer.kernel))

    def forward(self, images: Tensor) -> Tensor:
        """A_n z_n, ``(B, m_n, *size')`` for images ``(B, C, *size)``."""
        self.architecture.check_size(spatial_size(check_images(images)))
        first = next(self.filters.parameters())
        y = low_passed(self.architecture, images, dtype=first.dtype)
        if y.shape[1] != first.shape[1]:
            raise ValueError(
                f"images must have {first.shape[1]} channels behind the front end, got {y.shape[1]}; give images with "
                "the channels that the network was made for"
            )
        for k, (filters, norms, activation, root) in enumerate(
            zip(self.filters, self.norms, self.activations, self.roots, strict=True)
        ):
            length = norms(y.square().sum(1, keepdim=True)).sqrt()
            y = root(pooled(self.architecture, k, activation(filters(y), length), self.d))
        return y


def _convolution(kernel: Tensor, mode: str) -> nn.Module:
    """With the given filters ``(m, C, *sides)``, beyond the border as torch's padding mode says."""
    plane, e = kernel.ndim == 4, kernel.shape[-1]
    apart = mode == "zeros" and e % 2 == 0  # torch would copy, and warn
    made = nn.utils.skip_init(
        nn.Conv2d if plane else nn.Conv1d, kernel.shape[1], len(kernel), tuple(kernel.shape[2:]),
        padding="valid" if apart else "same", padding_mode=mode, bias=False, dtype=kernel.dtype, device=kernel.device,
    )  # fmt: skip
    made.weight = nn.Parameter(kernel.clone())
    if not apart:
        return made
    around = ((e - 1) // 2, e // 2)
    return nn.Sequential(nn.ZeroPad2d(around * 2) if plane else nn.ZeroPad1d(around), made)
