"""Classes that a user might write, named by ``class_path`` in tests."""

import math
from dataclasses import dataclass

import torch
from torch import nn

import stability as st
from stability.kernels import Kernel
from stability.representations.linear import LinearGram


@dataclass(frozen=True)
class Cubic(Kernel):
    """kappa(u) = (1 - w) u + w u^3."""

    weight: float = 1.0

    @property
    def derivative_at_one(self):
        return 1 + 2 * self.weight

    def evaluate_(self, cosine):
        return cosine.mul_(1 - self.weight + self.weight * cosine.square())


class Drift:
    """A family: one translation in a direction drawn at random."""

    @staticmethod
    def sample(size, *, generator, speed=1.0):
        angle = 2 * math.pi * float(torch.rand((), generator=generator))
        return st.Translation((speed * math.cos(angle), speed * math.sin(angle)), size=size)


class Blur(LinearGram):
    """A representation that is given the sweep's architecture."""

    def __init__(self, architecture, sigma=1.0):
        super().__init__(architecture.replace("antialiasing", sigma))


class Net(nn.Module):
    """A module with weights from torch's own generator, dropout and a layer of two axes."""

    def __init__(self, channels=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(channels, 3)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


class Broken(nn.Module):
    """Fails on every image but the first one."""

    def forward(self, images):
        if len(images) > 1:
            raise RuntimeError("no such batch")
        return images
