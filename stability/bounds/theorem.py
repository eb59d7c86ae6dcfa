"""``Theorem``: what of a representation the theory sees, and what it says of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stability.architecture import Architecture
from stability.bounds.closed_form import form_of
from stability.bounds.field import FieldNorms
from stability.bounds.form import ClosedForm
from stability.bounds.hoelder import through_network
from stability.bounds.ntk import between_images, tangent_kernel_form
from stability.bounds.rung import Status


@dataclass(frozen=True)
class Theorem:
    """The network that a representation is, with the constants of its layers.

    Args:
        architecture: scales, patches, strides, kernels.
        own: rho_1, ..., rho_n of layers that take the place of the kernel maps and need not keep norms; None: the
            kernels' own.
        keeps_zero: whether the layers map 0 to 0.
        tangent: whether it is the neural tangent kernel of the network.
    """

    architecture: Architecture
    own: tuple[float, ...] | None = None
    keeps_zero: bool = True
    tangent: bool = False

    @property
    def lipschitz(self) -> tuple[float, ...]:
        """rho_1, ..., rho_n; infinite for tangent kernels."""
        if self.tangent:
            return (math.inf,) * self.architecture.depth
        return self.own if self.own is not None else self.architecture.lipschitz

    @property
    def silent(self) -> bool:
        """Whether there is nothing to say: a layer of unknown modulus."""
        return self.own is not None and math.inf in self.own

    @property
    def growth(self) -> float:
        """What ||Phi(x)|| is at most, over ||A_0 x||, strides apart."""
        if not self.tangent:
            return math.prod(self.own or ())
        square = 1.0
        for layer in self.architecture.layers:
            square = 1.0 + layer.kernel.derivative_at_one * square
        return math.sqrt(square)

    def form(self, norms: FieldNorms, vanishing_border: float | None = None) -> ClosedForm:
        """The bound from the norms of tau alone; of a tangent kernel ``hoelder`` only.

        >>> from stability.kernels import ArcCosine
        >>> arch = Architecture.dyadic(depth=2, subsampling=1, kernel=ArcCosine(1))
        >>> form = Theorem(arch, tangent=True).form(FieldNorms(0.01, 0.001))
        >>> form.value, round(form.hoelder, 3)
        (inf, 0.088)
        """
        if not self.tangent:
            return form_of(
                self.architecture,
                norms,
                lipschitz=self.own,
                vanishing_border=vanishing_border,
                keeps_zero=self.keeps_zero,
            )
        found = tangent_kernel_form(self.architecture, norms, vanishing_border)
        return replace(
            found,
            value=math.inf,
            combination="none",
            status=Status.NOT_COVERED,
            terms=(),
            hoelder=found.value,
            hoelder_terms=found.terms,
            notes=(*found.notes, "neural tangent kernels are not Lipschitz (rho = inf)"),
        )

    def through(self, error: float, size: float, gains: Sequence[float]) -> float:
        """How far apart two images can come out.

        Args:
            error: their distance after A_0.
            size: square root of the product of their norms.
            gains: norm of "pool, then subsample" of every layer.
        """
        if self.tangent:
            return between_images(self.architecture, error, size, gains)
        return through_network(self.architecture, error, size, gains, self.own)
