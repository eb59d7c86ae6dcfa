"""Certificates of random fields over the true operator norms, and how long they take.

    PYTHONPATH=. python benchmarks/certificates.py [--fields 2] [--size 64] [--no-patch] [--weighted]

True norms: compressions to the Fourier modes |k| <= K, dense, which can only be too small: the ratios are pessimistic.
Prints the median and the range of bound / true per dimension and quantity, and the processor time of all certificates
of one field.
"""

import argparse
import itertools
import math
import statistics
import time

import torch
from torch import Tensor

import stability as st
from stability.certificates import FieldCertificates, operator_weighted
from stability.deformations.base import Deformation

JACOBIANS = (0.05, 0.1, 0.25, 0.5)
CASES = {
    1: ((64,), (2, 6), (1.0, 2.0, 4.0), (40, 90, 384), (st.FourierField,)),
    2: ((24, 24), (1, 3), (1.5, 3.0), (8, 14, 48), (st.FourierField, st.DivergenceFreeField, st.GradientField)),
}
"""Size, cutoffs, sigmas, (modes in, modes out, nodes per axis) and families by dimension."""


class Compression:
    """L of one field between the modes |k|_inf <= K and |m|_inf <= M of the torus, by quadrature on a grid.

    Args:
        field: one field, batch shape ``()``.
        modes: K, M and the number of nodes per axis.
    """

    def __init__(self, field: Deformation, modes: tuple[int, int, int]) -> None:
        few, many, nodes = modes
        sides = torch.tensor(field.size[::-1], dtype=torch.float64)
        axes = [torch.arange(nodes, dtype=torch.float64) * side / nodes for side in sides.tolist()]
        points = torch.cartesian_prod(*axes).reshape(-1, field.d)
        k, m = (torch.cartesian_prod(*[torch.arange(-n, n + 1.0, dtype=torch.float64)] * field.d) for n in (few, many))
        self.inner, self.outer = (2 * math.pi * part.reshape(-1, field.d) / sides for part in (k, m))
        moved = points - field.displacement(points)
        self.matrix = waves(points @ -self.outer.T).T @ waves(moved @ self.inner.T) / len(points)
        self.identity = (self.outer[:, None] == self.inner).all(-1).to(self.matrix)

    def symbols(self, sigma: float) -> tuple[Tensor, Tensor]:
        """exp(-sigma^2 |omega|^2 / 2) on both sides."""
        outer, inner = ((-(sigma**2) / 2 * part.square().sum(-1)).exp() for part in (self.outer, self.inner))
        return outer[:, None], inner

    def commutator(self, sigma: float) -> Tensor:
        """A L - L A."""
        outer, inner = self.symbols(sigma)
        return outer * self.matrix - self.matrix * inner

    def warp_difference(self, sigma: float) -> Tensor:
        """L A - A."""
        return (self.matrix - self.identity) * self.symbols(sigma)[1]

    def pooling_difference(self, sigma: float) -> Tensor:
        """A L - A."""
        return self.symbols(sigma)[0] * (self.matrix - self.identity)

    def patch_commutator(self, sigma: float, patch_size: int, spacing: float) -> Tensor:
        """[P A, L], the positions one below the other."""
        outer, inner = self.symbols(sigma)
        start = -((patch_size - 1) // 2)
        places = itertools.product(range(start, start + patch_size), repeat=self.inner.shape[1])
        offsets = spacing * torch.tensor(list(places), dtype=torch.float64)
        blocks = [
            waves(self.outer @ c)[:, None] * outer * self.matrix - self.matrix * (inner * waves(self.inner @ c))
            for c in offsets
        ]
        return torch.cat(blocks) / math.sqrt(len(offsets))

    def energy(self, matrix: Tensor, sigma: float) -> Tensor:
        """The matrix acting on z over (||z||^2 - ||A z||^2)^(1/2)."""
        removed = -torch.expm1(-(sigma**2) * self.inner.square().sum(-1))
        return matrix[:, removed > 0] / removed[removed > 0].sqrt()


def waves(phase: Tensor) -> Tensor:
    """exp(i phase)."""
    return torch.polar(torch.ones_like(phase), phase)


def norm(matrix: Tensor) -> float:
    """The largest singular value, from the smaller of both Gram matrices."""
    gram = matrix.mH @ matrix
    return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt())


def ratios(d: int, count: int, *, patch: bool, weighted: bool) -> dict[str, list[float]]:
    """Bound / true over all cases of one dimension."""
    size, cutoffs, sigmas, modes, families = CASES[d]
    found: dict[str, list[float]] = {}
    rng = torch.Generator().manual_seed(d)
    for family, cutoff, b in itertools.product(families, cutoffs, JACOBIANS):
        drawn = family.sample(size, cutoff=cutoff, batch_shape=(count,), generator=rng)
        fields = drawn * (b / drawn.norms().jacobian.upper)
        certificates = FieldCertificates(fields)
        for i, sigma in itertools.product(range(count), sigmas):
            true = Compression(fields[i], modes)
            pairs = {
                "[A, L]": (certificates.commutator(sigma), true.commutator(sigma)),
                "A L - A": (certificates.pooling_difference(sigma), true.pooling_difference(sigma)),
                "L A - A": (certificates.warp_difference(sigma), true.warp_difference(sigma)),
            }
            if patch:
                stacked = true.patch_commutator(sigma, 3, sigma / 2)
                pairs["[P A, L]"] = certificates.patch_commutator(sigma, 3, sigma / 2), stacked
                pairs["energy"] = certificates.patch_energy(sigma, 3, sigma / 2), true.energy(stacked, sigma)
            if weighted and b >= 0.1:
                bound = operator_weighted(fields[i], sigma, rng)
                found.setdefault("[A, L], operator weighted", []).append(
                    float(bound.value) / norm(true.commutator(sigma))
                )
            for name, (bound, matrix) in pairs.items():
                found.setdefault(name, []).append(float(bound.value[i]) / norm(matrix))
            own = norm(true.commutator(sigma))
            found.setdefault("[A, L], closed form of b", []).append(st.bounds.mixed_commutator(b, d) / own)
            found.setdefault("[A, L], c_d b (1-b)^(-d/2)", []).append(st.bounds.commutator(b, d) / own)
            found.setdefault(f"[A, L], {family.__name__}", []).append(found["[A, L]"][-1])
            form = certificates.commutator(sigma).forms[i]
            found.setdefault(f"[A, L] by {form}", []).append(found["[A, L]"][-1])
    return found


def main() -> None:
    """Print ratios and times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=1, help="fields per family, cutoff and b")
    parser.add_argument("--size", type=int, default=64, help="side of the field whose certificates are timed")
    parser.add_argument("--no-patch", action="store_true", help="leave the patches out")
    parser.add_argument("--weighted", action="store_true", help="with the operator-weighted bound, for b >= 0.1")
    arguments = parser.parse_args()
    for d in (1, 2):
        count = arguments.fields * (2 if d == 1 else 1)
        found = ratios(d, count, patch=not arguments.no_patch, weighted=arguments.weighted)
        for name, values in found.items():
            low, middle, high = min(values), statistics.median(values), max(values)
            print(f"d = {d}  {name:<32} {middle:6.2f}  [{low:.2f}, {high:.2f}]  {len(values)} cases", flush=True)
    rng = torch.Generator().manual_seed(0)
    size = (arguments.size, arguments.size)
    for b in (0.1, 0.5):
        field = st.FourierField.sample(size, cutoff=3, generator=rng)
        field = field * (b / field.norms().jacobian.upper)
        field = st.FourierField(field.modes, field.cosine, field.sine, size=size)  # nothing computed before
        start = time.process_time()
        certificates = FieldCertificates(field)
        certificates.commutator(2.0)
        first = time.process_time() - start
        certificates.patch_commutator(2.0, 3, 1.0)
        certificates.patch_energy(2.0, 3, 1.0)
        certificates.pooling_difference(4.0)
        print(f"{size}, b = {b}: [A, L] {first:.2f} s, everything {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
