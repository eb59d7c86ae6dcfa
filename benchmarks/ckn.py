"""Time to choose anchors and to encode images by a finite CKN, beside a plain convolution and a plain k-means.

    python benchmarks/ckn.py [--images 1000] [--patches 100000] [--out FILE]

32 x 32 x 3 images, patches 3 x 3, 64 and 256 filters, strides 2 and 6, exponential kernel of bandwidth 0.6, single
precision, one thread, processor time. On a machine where CKN-Pytorch-image needs 3.7 s to encode 1,000 images and 31 s
to choose anchors among 100,000 patches a layer, at most 1.8 s and 15 s are wanted. Two plain yardsticks tell how fast a
machine is: torch's convolution of layer 2 (64 to 256 channels on 16 x 16 pixels), in the default layout and in the
faster one, for the same images; and k-means without any draft, 10 passes over the patches of layer 2.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import stability as st
from stability import kernels
from stability.representations.sampled_patches import sampled_patches

KERNEL = kernels.Exponential(0.6**-2)
FILTERS = (64, 256)
ARCHITECTURE = st.Architecture(
    (st.Layer(3, 2 * 2**-0.5, 2, KERNEL), st.Layer(3, 12 * 2**-0.5, 6, KERNEL)),
    None,
    front_end=st.front_ends.MeanRemoval(),
)
"""Pooling scale = stride / sqrt(2) of the layer's grid, as CKN-Pytorch-image has it."""


def seconds(action: Callable[[], object], repeats: int = 1) -> float:
    """Processor time, median."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def pictures(count: int, generator: torch.Generator) -> Tensor:
    """Images with edges and a 1 / r spectrum: crops of smooth noise cut at random levels."""
    noise = torch.randn(count, 3, 32, 32, generator=generator)
    radius = sum(f.square().view(-1, *(1,) * (1 - i)) for i, f in enumerate([torch.fft.fftfreq(32)] * 2))
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) / (radius + 1e-3).sqrt()).real
    return torch.sigmoid(8 * smooth / smooth.std() * torch.rand(count, 1, 1, 1, generator=generator))


def plain_k_means(points: Tensor, count: int, passes: int) -> None:
    """Assign and average, from the first points."""
    anchors = points[:count]
    for _ in range(passes):
        nearest = (points @ anchors.T).argmax(1)
        anchors = torch.nn.functional.normalize(torch.zeros_like(anchors).index_add_(0, nearest, points), dim=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = pictures(options.images, generator)
    fitted: list[st.CKN] = []

    def fit() -> None:
        fitted.append(st.CKN.fit(ARCHITECTURE, images, filters=FILTERS, generator=generator, patches=options.patches))

    choosing = seconds(fit)
    network = fitted[0]
    with torch.no_grad():
        network(images[:32])
        encoding = seconds(lambda: network(images), 3)
        maps = torch.rand(32, 64, 18, 18)
        plain, lasting = torch.nn.Conv2d(64, 256, 3, bias=False), maps.contiguous(memory_format=torch.channels_last)
        plain(maps), plain(lasting)
        default = seconds(lambda: plain(maps), 7) * options.images / 32
        faster = seconds(lambda: plain(lasting), 7) * options.images / 32
        a = torch.rand(2000, 2000)
        speed = 16 / seconds(lambda: a @ a, 5)
        below = st.CKN(
            st.Architecture(ARCHITECTURE.layers[:1], None, front_end=ARCHITECTURE.front_end), [network.anchors[0]]
        )
        points = sampled_patches(ARCHITECTURE, 1, images, below, options.patches, generator)
        lloyd = seconds(lambda: plain_k_means(points, FILTERS[1], 10))
    energy = network.captured_energy(images[:50]).mean(0)
    lines = [
        f"{options.images} images 32 x 32 x 3, filters {FILTERS}, torch {torch.__version__}, float32, one thread, "
        "processor time in s",
        f"{'choose anchors':<44} {choosing:7.2f}   ({options.patches} patches a layer, k-means)",
        f"{'encode':<44} {encoding:7.2f}",
        f"{'plain convolution of layer 2, default layout':<44} {default:7.2f}",
        f"{'the same, channels last':<44} {faster:7.2f}",
        f"{'plain k-means of layer 2, 10 passes':<44} {lloyd:7.2f}",
        f"{'matrix product, GFlop/s':<44} {speed:7.1f}",
        f"captured energy, layers 1 and 2: {', '.join(f'{e:.3f}' for e in energy)}",
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
