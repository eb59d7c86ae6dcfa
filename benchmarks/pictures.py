"""Images for benchmarks: a set by name, with the user's own files if it has any."""

import argparse
from pathlib import Path

import torch

import stability as st

FIT = 20
"""Images to fit a network to, if the set has so many."""


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options ``--source``, ``--root``, ``--images`` and ``--first``."""
    parser.add_argument("--source", default="fashion", help="name of the image set")
    parser.add_argument("--root", type=Path, help="its files, if they are your own (for example an npz archive)")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="index of the first image")


def load(given: argparse.Namespace, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The images to fit to, and those that are asked for, as many as there are; float64."""
    wanted = max(FIT, given.first + given.images)
    available = len(st.images.dataset(given.source, given.root, count=None).images)
    images = st.images.load(given.source, count=min(wanted, available), size=size, root=given.root).double()
    return images, images[given.first : given.first + given.images]
