"""Accuracy of the exact kernel as a classifier, beside the linear kernel on the same images.

    STABILITY_DATA=FOLDER python benchmarks/accuracy.py --store STORE [--jobs 2] [--out FILE]
    python benchmarks/accuracy.py --arrays FILE.npz --store STORE [--jobs 2] [--out FILE]

The folder holds Fashion-MNIST's ``train-images-idx3-ubyte[.gz]`` and labels (Debian's package dataset-fashion-mnist
installs them in /usr/share/datasets/fashion-mnist; (c) 2017 Zalando SE, MIT licence): the first images are for
training, the next ones for testing (classes alternate). The file holds ``x_train y_train x_test y_test``, uint8. Method
and regulariser are chosen by five-fold cross-validation on the training images alone; the architecture, too, with
finite CKNs in place of the exact kernel (the first 200 test images had been seen before, under another architecture). A
run that is stopped goes on from its store. Target: at least 4 points above the linear kernel, in under 30 minutes on
two cores.
"""

import argparse
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import stability as st
from stability import kernels
from stability.representations.base import KernelRepresentation
from stability.rkhs.methods import Method

KERNEL = kernels.Exponential(2.5)
ARCHITECTURE = st.Architecture(
    (st.Layer(3, 1.4, 2, KERNEL), st.Layer(3, 2.5, 5, KERNEL)), None, front_end=st.front_ends.MeanRemoval()
)
"""Chosen among eleven by cross-validation on the training images, with 64 and 192 anchors in place of the kernel."""
PIXELS = st.Architecture((st.Layer(1, 0.0, 1),), None)
"""Phi(x) = x."""
PENALTIES = [10.0**e for e in (1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, -2.5, -3.0, -3.5, -4.0, -5.0)]
COSTS = [10.0**e for e in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)]
TIMED_IMAGES, TIMED_TILES = 20, 3


@dataclass(frozen=True)
class Split:
    """Images in [0, 1] and their labels."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Result:
    """One kernel on one split."""

    line: str
    hits: Tensor  # (test images,), whether the label was right


def read(arrays: Path | None, train: int, test: int) -> Split:
    """The first images of a file with both sets, or of the user's Fashion-MNIST files."""
    if arrays is not None:
        with np.load(arrays) as found:
            parts = [
                torch.from_numpy(found[name].astype(np.int64)) for name in ("x_train", "y_train", "x_test", "y_test")
            ]
    else:
        data = st.images.dataset("fashion")
        images, labels = (255 * data.images[:, 0]).round().long(), data.labels
        parts = [images[:train], labels[:train], images[train : train + test], labels[train : train + test]]
    if len(parts[0]) < train or len(parts[2]) < test:
        raise SystemExit(
            f"need {train} training and {test} test images, got {len(parts[0])} and {len(parts[2])}: set "
            "STABILITY_DATA to a folder with the files, or pass --arrays"
        )
    pictures = [part[:count, None].double() / 255 for part, count in ((parts[0], train), (parts[2], test))]
    return Split(pictures[0], parts[1][:train], pictures[1], parts[3][:test])


def milliseconds_a_pair(representation: KernelRepresentation, images: Tensor, dtype: torch.dtype) -> float:
    """Processor time with one thread, median over tiles whose images are prepared anew."""
    times = []
    for _ in range(TIMED_TILES):
        start = time.process_time()
        st.kernel_matrix(representation, images[:TIMED_IMAGES], images[TIMED_IMAGES : 2 * TIMED_IMAGES], dtype=dtype)
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times) / TIMED_IMAGES**2


def judge(
    name: str, representation: KernelRepresentation, split: Split, methods: list[Method], options: argparse.Namespace
) -> Result:
    """Both matrices, the method by cross-validation, one look at the test images."""
    dtype = torch.float32 if options.single else torch.float64
    cost = milliseconds_a_pair(representation, split.train, dtype)
    start, matrices = time.perf_counter(), []
    for part, pair in (("train", (split.train, None)), ("test", (split.test, split.train))):
        folder = name.replace(",", "").replace(" ", "_") + ("_float32" if options.single else "")
        store = None if options.store is None else options.store / folder / part
        matrix = st.kernel_matrix(representation, *pair, store=store, dtype=dtype, jobs=options.jobs, progress=True)
        matrices.append(matrix.double())
    minutes = (time.perf_counter() - start) / 60
    gram, cross = matrices
    norms = gram.diagonal().sqrt()
    normalised = gram / norms[:, None] / norms
    generator = torch.Generator().manual_seed(0)
    validation = st.cross_validate(normalised, split.train_labels, methods, generator=generator)
    f = st.Predictor.fit(representation, split.train, split.train_labels, validation.best, matrix=gram)
    values, norm = f(split.test, cross=cross), representation.norm(split.test)
    hits = f.labels(values) == split.test_labels
    accuracy = hits.double().mean().item()
    error = 100 * math.sqrt(accuracy * (1 - accuracy) / len(hits))
    certified = (f.certified_distance(values, norm) / norm).median().item()
    return Result(
        f"{name:>22} {shown(validation.best):>16} {100 * max(validation.accuracies):10.1f} "
        f"{100 * accuracy:8.1f} +- {error:.1f} {f.norms.median().item():8.1f} {100 * certified:10.2f} "
        f"{cost:8.2f} {minutes:8.1f}",
        hits,
    )


def shown(method: Method) -> str:
    """A method and its regulariser in a few letters."""
    value = method.penalty if isinstance(method, st.KernelRidge) else method.cost
    return f"{'ridge' if isinstance(method, st.KernelRidge) else 'SVM'} {value:.3g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--single", action="store_true", help="kernel matrices in float32, in a store of their own")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    split = read(options.arrays, options.train, options.test)
    chosen: list[Method] = [st.KernelRidge(p) for p in PENALTIES] + [st.SupportVectorMachine(c) for c in COSTS]
    cases: list[tuple[str, KernelRepresentation]] = [
        ("linear, pixels", st.LinearGram(PIXELS)),
        ("linear, same filters", st.LinearGram(ARCHITECTURE)),
        ("exact CKN", st.GramCKN(ARCHITECTURE)),
    ]
    results = [judge(name, representation, split, chosen, options) for name, representation in cases]
    pairs = options.train * (options.train + 1) // 2 + options.train * options.test
    lines = [
        f"Fashion-MNIST 28 x 28, {options.train} training and {options.test} test images, kernels normalised; method",
        "and regulariser by 5-fold cross-validation on the training images; torch "
        f"{torch.__version__}, {'float32' if options.single else 'float64'}, {options.jobs} processes of one thread",
        "CKN: mean removed, 2 layers, patch 3, kernel exp(2.5 (u - 1)), pooling 1.4 and 2.5 px, strides (2, 5), no",
        f"A_0; {pairs} pairs of images",
        "",
        f"{'kernel':>22} {'method':>16} {'validated':>10} {'accuracy %':>15} {'||f||':>6} {'certified':>10} "
        f"{'ms/pair':>8} {'minutes':>8}",
        *(result.line for result in results),
        "",
    ]
    for (name, _), result in zip(cases[:2], results[:2], strict=True):
        gain = results[2].hits.double() - result.hits.double()  # image by image: the two are right on the same ones
        error = 1.96 * gain.std().item() / math.sqrt(len(gain))
        lines.append(f"exact CKN - {name}: {100 * gain.mean().item():+.1f} points +- {100 * error:.1f} (95 %)")
    lines += [
        "",
        "||f||: median over the classes. certified: median over the test images of the distance ||Phi(x) - Phi(y)||,",
        "in % of ||Phi(x)||, below which no y has another label (Cauchy-Schwarz). ms/pair: processor time. minutes:",
        "wall time of both matrices in this run (less if its store was begun before).",
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
