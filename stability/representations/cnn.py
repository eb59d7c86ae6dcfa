r"""``cnn``, ``CNN``: the convolutional network of an ``Architecture``, M_k z = s(W_k z) in place of the kernel maps."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from stability.activations import Activation, ReLU
from stability.architecture import Architecture
from stability.grid import check_images, spatial_size
from stability.operators.convolution import filtered
from stability.representations.explicit import ExplicitRepresentation
from stability.representations.maps import low_passed, pooled
from stability.representations.stages import ExplicitStages

RELU = ReLU()


class CNN(ExplicitRepresentation):
    r"""Phi(x) = A_n s(W_n P_n A_{n-1} ... s(W_1 P_1 A_0 F x)), the same operators as ``CKN``.

    s is pointwise and 1-Lipschitz and ||P_k|| = 1, so that layer k is ||W_k||_2-Lipschitz: ``lipschitz``, which
    ``closed_form`` and ``ladder`` use in place of the kernels' constants. The kernels of the architecture play no
    part. Unlike a kernel map a layer may make maps longer or shorter; ``keeps_norms`` is False.

    A smoothed ReLU has s(0) != 0, and distances and bounds hold nonetheless: on the torus the layers applied to 0
    give constant images c_k, which every operator in the theorem leaves alone, and z_k - c_k are the maps of the
    network with the layers y -> M_k(y + P_k c_{k-1}) - c_k, which vanish at 0 and have the same Lipschitz constants.
    With a boundary of zeros the c_k are not constant, and the theorem covers activations with s(0) = 0 only.

    Args:
        architecture: patches, scales, strides, front end.
        weights: one tensor ``(m_k, p_k)`` for each layer, p_1 = C e^d, p_{k+1} = m_k e^d (offsets outer, channels
            inner, as ``extract_patches`` stacks them); parameters are kept and shared. Use ``cnn`` to draw them.
        activation: s.
        refinement: as in ``GramCKN``.

    Raises:
        ValueError: if the weights do not fit the architecture.

    Reference: Bietti & Mairal 2019 (on convolutional networks and their RKHS norm); docs/theory.md, section 13.

    >>> net = cnn(Architecture.dyadic(depth=2), widths=(8, 16), generator=torch.Generator().manual_seed(0))
    >>> net(torch.rand(4, 1, 16, 16)).shape, len(net.lipschitz)
    (torch.Size([4, 16, 4, 4]), 2)
    """

    architecture: Architecture
    keeps_norms = False

    def __init__(
        self,
        architecture: Architecture,
        weights: Sequence[Tensor],
        activation: Activation = RELU,
        refinement: int = 1,
    ) -> None:
        super().__init__()
        if len(weights) != architecture.depth or any(w.ndim != 2 for w in weights):
            raise ValueError(
                f"weights must be one matrix per layer ({architecture.depth}), got shapes "
                f"{[tuple(w.shape) for w in weights]}; use cnn(architecture, widths=...)"
            )
        if not isinstance(activation, Activation):
            raise ValueError(f"activation must be an Activation, got {activation!r}; use activations.ReLU()")
        self.architecture, self.activation, self.refinement = architecture, activation, refinement
        self.weights = nn.ParameterList([w if isinstance(w, nn.Parameter) else nn.Parameter(w) for w in weights])

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.weights[0].dtype

    @property
    def widths(self) -> tuple[int, ...]:
        """m_1, ..., m_n."""
        return tuple(len(w) for w in self.weights)

    @property
    def keeps_zero(self) -> bool:
        """Whether s(0) = 0."""
        return bool(self.activation(torch.zeros(1, dtype=torch.float64)) == 0)

    @property
    def lipschitz(self) -> tuple[float, ...]:
        """rho_k = sup |s'| ||W_k||_2, the spectral norms in float64."""
        return tuple(
            self.activation.lipschitz * float(torch.linalg.matrix_norm(w.detach().to(torch.float64), ord=2))
            for w in self.weights
        )

    def cell_area(self, size: tuple[int, ...], features: Tensor) -> float:
        """H W / (H' W') in pixels of the unrefined grid."""
        d = len(size)
        return math.prod(size) / math.prod(features.shape[-d:]) / self.refinement**d

    def refined(self, factor: int) -> "CNN":
        """The same network, with the same parameters, on grids ``factor`` times as fine."""
        return CNN(self.architecture, list(self.weights), self.activation, self.refinement * factor)

    def stages(self, image: Tensor) -> ExplicitStages:
        """z_0, ..., z_n of one image, in float64."""
        maps = [partial(_layer_map, w.detach().double(), self.activation) for w in self.weights]
        return ExplicitStages(self.architecture, self.refinement, image, maps)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The pooled maps A_k z_k of every layer, ``(B, m_k, *size_k)``, differentiable."""
        size = spatial_size(check_images(images))
        self.architecture.check_size(tuple(n // self.refinement for n in size))
        boundary = self.architecture.boundary
        d, maps = len(size), [low_passed(self.architecture, images, self.refinement, self.dtype)]
        for k, (layer, weight) in enumerate(zip(self.architecture.layers, self.weights, strict=True)):
            entries = maps[-1].shape[1] * layer.patch_size**d
            if entries != weight.shape[1]:
                raise ValueError(
                    f"the patches of layer {k + 1} must have {weight.shape[1]} entries (channels x positions), got "
                    f"{entries}; give images with other channels or draw the network with channels=, d="
                )
            mapped = self.activation(filtered(maps[-1], weight, layer.patch_size, d, self.refinement, boundary))
            maps.append(pooled(self.architecture, k, mapped, d, self.refinement))
        return maps[1:]

    def forward(self, images: Tensor) -> Tensor:
        """A_n z_n, ``(B, m_n, *size')`` for images ``(B, C, *size)`` in the network's dtype."""
        return self.layers(images)[-1]


def _layer_map(weight: Tensor, activation: Activation, patches: Tensor) -> Tensor:
    """s(W z) of patches ``(p, N)``."""
    return activation(weight @ patches)


def cnn(
    architecture: Architecture,
    widths: Sequence[int] = (16, 32),
    *,
    activation: Activation = RELU,
    channels: int = 1,
    d: int = 2,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator,
) -> CNN:
    """A ``CNN`` with independent Gaussian weights of variance 2 / m_k: a ReLU layer then keeps |z|^2 in the mean.

    A patch averages over its positions and sums over channels, so that its norm is that of one position and the
    number of outputs m_k, not of inputs, sets the scale (He initialisation by fan-out): E |s(W z)|^2 = |z|^2.

    Args:
        architecture: the network; its kernels are not used.
        widths: m_k, number of filters of every layer, >= 1.
        activation: s.
        channels: C of the images, >= 1.
        d: 2 for images, 1 for signals.
        dtype: of the weights, in which the network computes.
        generator: source of randomness.

    Returns:
        A ``CNN`` whose weights are parameters: p_1 = C e^d and p_{k+1} = m_k e^d columns.

    Raises:
        ValueError: if ``widths`` has another length than the network, or a number is no integer >= 1.

    Reference: He, Zhang, Ren & Sun 2015.

    >>> net = cnn(Architecture.dyadic(depth=2), generator=torch.Generator().manual_seed(0))
    >>> [tuple(weight.shape) for weight in net.weights]
    [(16, 9), (32, 144)]
    """
    if len(widths) != architecture.depth:
        raise ValueError(
            f"widths must have one number per layer ({architecture.depth}), got {tuple(widths)}; "
            "use for example widths=(16, 32)"
        )
    for name, value in (("channels", channels), *(("widths", width) for width in widths)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be integers >= 1, got {value!r}; use for example 16")
    if isinstance(d, bool) or d not in (1, 2):
        raise ValueError(f"d must be 1 or 2, got {d!r}; use d=2 for images and d=1 for signals")
    weights, inputs = [], channels
    for layer, width in zip(architecture.layers, widths, strict=True):
        shape = (width, inputs * layer.patch_size**d)
        draw = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        weights.append((draw * math.sqrt(2.0 / width)).to(dtype))
        inputs = width
    return CNN(architecture, weights, activation)
