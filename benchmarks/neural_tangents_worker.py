"""The other side of ``benchmarks/kernels.py --peer``: reads cases, writes median processor seconds."""

import json
import os
import statistics
import sys
import time
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)


def network(side: int, strides: list[int], kind: str, boxes: str) -> tuple[Any, Any, Any]:
    """Two layers Conv(3 x 3), kernel, average pooling; trace at the end.

    Boxes "strides": as wide as the stride, side by side; "variance": periodic, of the variance of the Gaussian poolings
    (sigma = the stride, in samples of the grid below), or the whole torus if that is smaller.
    """
    layers = []
    for stride in strides:
        width = stride if boxes == "strides" else min(side, round((12.0 * stride**2 + 1.0) ** 0.5))
        if kind == "exponential":
            layers += [stax.Conv(1, (3, 3), padding="CIRCULAR"), stax.ExpNormalized(gamma=1.0, shift=-1.0)]
        else:
            layers += [stax.Conv(1, (3, 3), padding="CIRCULAR", W_std=2**0.5), stax.Relu()]
        padding = "VALID" if boxes == "strides" else "CIRCULAR"
        layers.append(stax.AvgPool((width, width), strides=(stride, stride), padding=padding))
        side = -(-side // stride)
    layers.append(stax.Flatten())
    return stax.serial(*(layers if kind == "exponential" else [*layers, stax.Dense(1)]))


for line in sys.stdin:
    asked = json.loads(line)
    (height, width), channels, strides = asked["case"]
    kind = "nngp" if asked["kind"] == "exponential" else "ntk"
    evaluate = jax.jit(network(height, strides, asked["kind"], asked["boxes"])[2], static_argnames="get")
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, height, width, channels))
    evaluate(x, y, get=kind).block_until_ready()
    times = []
    while sum(times) < 3 and len(times) < 25:
        start = time.process_time()
        evaluate(x, y, get=kind).block_until_ready()
        times.append(time.process_time() - start)
    print(statistics.median(times), flush=True)
