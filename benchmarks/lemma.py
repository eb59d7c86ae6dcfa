r"""Tables of ``stability.bounds.lemma``: Phi(F, B, H, K) and its energy form on a lattice of the simplex.

    PYTHONPATH=. python benchmarks/lemma.py [--parts 16] [--steps 800]

Prints the two tables as they stand in ``stability/bounds/envelope_table.py``. All nodes are optimised at once by Adam
over the weights and the exponents of the two multipliers S and S' (docs/theory-fields.md), with sup replaced by a high
power mean; every set of parameters gives a valid bound, so that only the final evaluation, on a fine grid and rounded
up, counts.
"""

import argparse
import itertools
import math

import numpy
import torch
from torch import Tensor

FINE, COARSE = 1400, 150
"""Points of the variable x = t |xi|^2 in the final evaluation, and during the optimisation."""
ALLOWANCE = 3e-5
"""What a maximum may exceed the largest node of the fine grid by, as a share; its neighbours are 1.5 % apart."""


def lattice(parts: int) -> Tensor:
    """All (F, B, H, K) >= 0 with sum 1 that are multiples of 1 / parts, ``(n, 4)``, in the order of the table."""
    triples = itertools.product(range(parts + 1), repeat=3)
    rows = [(f, b, h, parts - f - b - h) for f, b, h in triples if f + b + h <= parts]
    return torch.tensor(rows, dtype=torch.float64) / parts


class Multipliers:
    """S(x) and S'(y) of the lemma on a grid of x = y.

    Args:
        points: of the grid between 1e-4 and 1e5.
        energy: whether S' is divided by w(y) = 1 - exp(-2 y).
    """

    def __init__(self, points: int, *, energy: bool) -> None:
        x = torch.logspace(-4, 5, points, dtype=torch.float64)
        edges = torch.cat([torch.zeros(1), 2.0 ** -torch.arange(20, 0, -1.0)]).to(x)
        edges = torch.cat([edges, (1 - edges.flip(0))[1:]])
        nodes, weights = map(torch.from_numpy, numpy.polynomial.legendre.leggauss(12))
        half = edges.diff()[:, None] / 2
        self._r, self._weights = (edges[:-1, None] + half * (1 + nodes)).flatten(), (half * weights).flatten()
        self._x = x
        self._difference = ((-x[:, None] * (1 - self._r)).exp() - (-x[:, None]).exp()).square()  # (X, R)
        self._removed = -torch.expm1(-2 * x) if energy else torch.ones_like(x)

    def __call__(self, shares: Tensor, weights: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
        """S and S' ``(n, X)`` for shares ``(n, 4)``, ln(lambda, mu, n, v) ``(n, 4)`` and (nu, k, k4) ``(n, 3)``."""
        x = self._x
        f, b, h, k = shares.unsqueeze(-1).unbind(1)
        lam, mu, n, v = weights.exp().unsqueeze(-1).unbind(1)
        nu, tilt, bend = exponents.unsqueeze(-1).unbind(1)
        a2 = ((-nu * self._r).exp() / self._r * self._weights) @ self._difference.T
        s = 2 * x - nu
        safe = torch.where(s.abs() > 1e-3, s, 1.0)
        b2 = torch.where(s.abs() > 1e-3, (1 - (1 + safe) * (-safe).exp()) / safe.square(), 0.5 - s / 3 + s * s / 8)
        first, third = x * (-tilt).exp() * q(2 * (x - tilt)), (-bend).exp() * q(2 * (x - bend))
        left = f * ((-2 * x).exp() + lam * a2) + b * mu * first + h * n * third + k * v
        right = f * (torch.expm1(-x).square() + x * x * b2 / lam) + b * first / mu + h * x * third / n
        return left, (right + 2 * k * x * (-2 * x).exp() / v) / self._removed


def q(z: Tensor) -> Tensor:
    """(1 - e^(-z)) / z."""
    safe = torch.where(z.abs() > 1e-6, z, 1.0)
    return torch.where(z.abs() > 1e-6, -torch.expm1(-safe) / safe, 1 - z / 2)


def optimised(shares: Tensor, *, energy: bool, steps: int = 500) -> tuple[Tensor, Tensor]:
    """ln weights and exponents for every row of ``shares``, ``(n, 4)`` and ``(n, 3)``."""
    multipliers = Multipliers(COARSE, energy=energy)
    weights = torch.tensor([3.4, 0.4, -0.3, -0.3], dtype=torch.float64).repeat(len(shares), 1).requires_grad_()
    exponents = torch.tensor([4.0, 1.3, 0.5], dtype=torch.float64).repeat(len(shares), 1).requires_grad_()
    optimiser = torch.optim.Adam([weights, exponents], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=5e-4)
    for step in range(steps):
        power = 20.0 * 100 ** (step / steps)
        optimiser.zero_grad()
        value = (
            sum(
                (power * part.clamp_min(1e-30).log()).logsumexp(1) / power
                for part in multipliers(shares, weights, exponents)
            )
            / 2
        )
        value.sum().backward()
        optimiser.step()
        schedule.step()
    return weights.detach(), exponents.detach()


def values(shares: Tensor, weights: Tensor, exponents: Tensor, *, energy: bool) -> Tensor:
    """(sup S sup S')^(1/2) on the fine grid, rounded up by ``ALLOWANCE``, ``(n,)``."""
    left, right = Multipliers(FINE, energy=energy)(shares, weights, exponents)
    return (left.amax(1) * right.amax(1)).sqrt() * (1 + ALLOWANCE)


def convexified(table: Tensor, shares: Tensor, parts: int) -> Tensor:
    """Every node no larger than the mean of two opposite neighbours: a convex function is bounded."""
    place = {tuple(row): i for i, row in enumerate((shares * parts).round().int().tolist())}
    pairs = []
    for give, take in itertools.combinations(range(4), 2):
        for row, i in place.items():
            near = [list(row), list(row)]
            for sign, one in zip((1, -1), near, strict=True):
                one[give] -= sign
                one[take] += sign
            if all(tuple(one) in place for one in near):
                pairs.append((i, place[tuple(near[0])], place[tuple(near[1])]))
    node, left, right = torch.tensor(pairs).unbind(1)
    for _ in range(parts):
        table = table.scatter_reduce(0, node, (table[left] + table[right]) / 2, "amin")
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--steps", type=int, default=800)
    arguments = parser.parse_args()
    shares = lattice(arguments.parts)
    print(f"PARTS = {arguments.parts}")
    for name, energy in (("NORM", False), ("ENERGY", True)):
        found = values(shares, *optimised(shares, energy=energy, steps=arguments.steps), energy=energy)
        numbers = [
            f"{math.ceil(value * 1e4) / 1e4:.4f}" for value in convexified(found, shares, arguments.parts).tolist()
        ]
        print(f"{name} = (")
        for start in range(0, len(numbers), 14):
            print("    " + ", ".join(numbers[start : start + 14]) + ",")
        print(")  # fmt: skip")


if __name__ == "__main__":
    main()
