"""``stability bound``: the theorem as a calculator. No torch."""

from collections.abc import Callable

from jsonargparse import Namespace

from stability.architecture import Architecture, Layer
from stability.cli.parser import Command, Parser
from stability.kernels import ArcCosine, Exponential, InversePolynomial, Kernel, Linear, Polynomial
from stability.names import resolve
from stability.plain_data import BOUNDARIES

KERNELS: dict[str, Callable[[], Kernel]] = {
    "exponential": Exponential,
    "inverse-polynomial": InversePolynomial,
    "polynomial-2": lambda: Polynomial(degree=2, offset=1.0),
    "arc-cosine-0": lambda: ArcCosine(degree=0),
    "arc-cosine-1": lambda: ArcCosine(degree=1),
    "linear": Linear,
}
"""Names of kernels on the command line; ``exponential:ALPHA`` sets alpha."""


def commands() -> list[Command]:
    """``bound``."""
    bound = Parser(description="The theorem as a calculator: the bound on ||Phi(L_tau x) - Phi(x)|| / ||x||.")
    bound.add_argument("--patch-sizes", type=int, nargs="+", required=True, help="e of every layer, px of its grid")
    bound.add_argument("--pooling-scales", type=float, nargs="+", required=True, help="sigma of every layer, input px")
    bound.add_argument("--subsampling", type=int, nargs="+", help="stride of every layer")
    bound.add_argument("--antialiasing", type=float, default=1.0, help="sigma_0, input px; 0: no A_0")
    bound.add_argument(
        "--kernels", nargs="+", default=["exponential"], help="one, or one per layer: " + ", ".join(KERNELS)
    )
    bound.add_argument("--displacement", type=float, required=True, help="sup |tau|, px")
    bound.add_argument("--jacobian", type=float, required=True, help="sup ||grad tau||_2, in [0, 1)")
    bound.add_argument("--hessian", type=float, help="sup of the second derivatives, 1 / px")
    bound.add_argument("--divergence", type=float, help="sup |div tau|")
    bound.add_argument("--mean", type=float, default=0.0, help="|c| of a constant c to split off, px")
    bound.add_argument("--residual", type=float, help="sup |tau - c|, px")
    bound.add_argument("--volume-preserving", action="store_true", help="det(I - grad tau) = 1 everywhere")
    bound.add_argument("--boundary", default="periodic", help="what lies beyond the border: " + ", ".join(BOUNDARIES))
    bound.add_argument("--vanishing-border", type=float, help="width in which tau = 0 at the border, px; for zero")
    bound.add_argument("--dimension", type=int, default=2, help="1 for signals, 2 for images")
    return [Command("bound", "the theorem as a calculator", bound, run)]


def run(options: Namespace) -> int:
    """Print the bound with every term and constant."""
    from stability.bounds.closed_form import closed_form

    if options.jacobian >= 1:
        raise ValueError(
            f"jacobian must be in [0, 1) for id - tau to be a diffeomorphism, got {options.jacobian:g}; "
            "the theorem says nothing beyond"
        )
    form = closed_form(
        architecture(options.patch_sizes, options.pooling_scales, options.subsampling, options.kernels, options),
        displacement_norm=options.displacement,
        jacobian_norm=options.jacobian,
        hessian_norm=options.hessian,
        divergence_norm=options.divergence,
        mean_displacement=options.mean,
        residual_displacement=options.residual,
        volume_preserving=options.volume_preserving,
        d=options.dimension,
        vanishing_border=options.vanishing_border,
    )
    print(form.to_text())
    return 0


def architecture(
    sizes: list[int], scales: list[float], strides: list[int] | None, names: list[str], options: Namespace
) -> Architecture:
    """The architecture that the options describe, one value per layer.

    Raises:
        ValueError: if a list has another length than the patch sizes.
    """
    strides = strides or [1] * len(sizes)
    kernels = [_kernel(name) for name in names]
    kernels = kernels * len(sizes) if len(kernels) == 1 else kernels
    for name, values in (("pooling-scales", scales), ("subsampling", strides), ("kernels", kernels)):
        if len(values) != len(sizes):
            raise ValueError(f"{name} must have one value per layer ({len(sizes)}), got {len(values)}; see patch-sizes")
    layers = zip(sizes, scales, strides, kernels, strict=True)
    boundary = resolve("boundary", options.boundary, BOUNDARIES)()
    return Architecture(tuple(Layer(*layer) for layer in layers), options.antialiasing, boundary)


def _kernel(name: str) -> Kernel:
    kind, _, alpha = name.partition(":")
    if not alpha:
        return resolve("kernel", name, KERNELS)()
    try:
        return {"exponential": Exponential}[kind](float(alpha))
    except (KeyError, ValueError):
        raise ValueError(
            f"kernel must be a name or exponential:ALPHA with ALPHA > 0, got {name!r}; use for example exponential:2.37"
        ) from None
