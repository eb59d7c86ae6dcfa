"""``LeNet``: a small ordinary convolutional network, to be measured beside the networks that the theory covers."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from stability.grid import check_size

FILTERS, KERNEL, HIDDEN = (6, 16), 5, 120
"""Widths of the convolutions, side of their filters, width of the hidden layer (LeNet-5)."""


class LeNet(nn.Module):
    """Class scores: 5 x 5 convolution, ReLU, 2 x 2 maximum; the same again; 120 hidden units, ReLU, linear.

    Submodules, for ``ModuleRepresentation``: ``conv1``, ``pool1``, ``conv2``, ``pool2``, ``hidden``, ``classifier``
    (the ReLUs stand between them: ``conv1``, ``conv2``, ``hidden`` are outputs before, ``pool1``, ``pool2`` after the
    ReLU). Weights are Gaussian with variance 2 / inputs, biases zero. With batch
    normalisation, ``norm1`` and ``norm2`` stand between a convolution and its ReLU; a network that is measured is in
    evaluation mode, where they are fixed affine maps of every channel.

    Args:
        channels: C of the images, >= 1.
        classes: number of scores, >= 1.
        size: ``(H, W)`` of the images in pixels, each at least 16.
        seed: of the weights' own generator; no global one is touched.
        filters: channels of the two convolutions, >= 1.
        hidden: hidden units, >= 1.
        kernel_size: side of the filters, >= 1.
        padding: zeros around the maps before a convolution, >= 0.
        batch_normalisation: of both convolutions. With it, 3 x 3 filters and a padding of 1 a network learns most from
            few images.

    Raises:
        ValueError: for a size of which nothing is left (below 16 pixels with 5 x 5 filters), or a number that is no
            integer in range.

    Reference: LeCun, Bottou, Bengio & Haffner 1998; He, Zhang, Ren & Sun 2015 for the weights; Ioffe & Szegedy 2015
    for batch normalisation.

    >>> LeNet()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        size: tuple[int, int] = (28, 28),
        seed: int = 0,
        filters: tuple[int, int] = FILTERS,
        hidden: int = HIDDEN,
        kernel_size: int = KERNEL,
        padding: int = 0,
        batch_normalisation: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(filters, tuple | list) or len(filters) != 2:
            raise ValueError(f"filters must be two numbers, got {filters!r}; use {FILTERS}")
        numbers = (("channels", channels, 1), ("classes", classes, 1), ("seed", seed, 0), ("hidden", hidden, 1),
                   ("filters", filters[0], 1), ("filters", filters[1], 1), ("kernel_size", kernel_size, 1),
                   ("padding", padding, 0))  # fmt: skip
        for name, value, least in numbers:
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}; use for example {name}=1")
        sides, cut = check_size(size), kernel_size - 1 - 2 * padding
        least = 2 * (2 + cut) + cut  # one pixel is left
        if len(sides) != 2 or min(sides) < least:
            raise ValueError(f"size must be (H, W) with sides of at least {least} pixels, got {size!r}; use (28, 28)")
        flat = filters[1] * math.prod(((n - cut) // 2 - cut) // 2 for n in sides)
        self.size = sides
        # skip_init: the layers' own initialisation would draw from the global generator
        self.conv1 = skip_init(nn.Conv2d, channels, filters[0], kernel_size, padding=padding)
        self.norm1 = nn.BatchNorm2d(filters[0]) if batch_normalisation else nn.Identity()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = skip_init(nn.Conv2d, filters[0], filters[1], kernel_size, padding=padding)
        self.norm2 = nn.BatchNorm2d(filters[1]) if batch_normalisation else nn.Identity()
        self.pool2 = nn.MaxPool2d(2)
        self.hidden = skip_init(nn.Linear, flat, hidden)
        self.classifier = skip_init(nn.Linear, hidden, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.conv1, self.conv2, self.hidden, self.classifier):
                deviation, shape = math.sqrt(2.0 / layer.weight[0].numel()), layer.weight.shape
                layer.weight.copy_(torch.randn(shape, generator=generator, dtype=torch.float64) * deviation)
                layer.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, classes)`` for images ``(B, C, H, W)`` of the given size, in the weights' dtype."""
        if tuple(images.shape[-2:]) != self.size:
            raise ValueError(
                f"images must have the size {self.size} of the network, got {tuple(images.shape[-2:])}; "
                "build it with LeNet(size=...)"
            )
        maps = self.pool1(self.norm1(self.conv1(images)).relu())
        maps = self.pool2(self.norm2(self.conv2(maps)).relu())
        return self.classifier(self.hidden(maps.flatten(1)).relu())
