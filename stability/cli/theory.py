"""``stability bound``: the theorem as a calculator. No torch."""

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

from jsonargparse import Namespace

from stability.architecture import Architecture, Layer
from stability.cli.parser import Command, Parser
from stability.kernels import ArcCosine, Kernel, Polynomial
from stability.names import resolve
from stability.plain_data import BOUNDARIES, build
from stability.plain_data import KERNELS as KINDS

KERNELS: dict[str, Callable[[], Kernel]] = {
    **{name.replace("_", "-"): kind for name, kind in KINDS.items() if name != "from_activation"},
    "polynomial-2": lambda: Polynomial(degree=2, offset=1.0),
    "arc-cosine-0": lambda: ArcCosine(degree=0),
    "arc-cosine-1": lambda: ArcCosine(degree=1),
}
"""Names of kernels on the command line; ``NAME:VALUE`` and ``NAME:FIELD=VALUE,...`` set their parameters."""


def commands() -> list[Command]:
    """``bound``."""
    bound = Parser(description="The theorem as a calculator: the bound on ||Phi(L_tau x) - Phi(x)|| / ||x||.")
    bound.add_argument("--patch-sizes", type=int, nargs="+", help="e of every layer, px of its grid")
    bound.add_argument("--pooling-scales", type=float, nargs="+", help="sigma of every layer, input px")
    bound.add_argument("--subsampling", type=int, nargs="+", help="stride of every layer")
    bound.add_argument("--antialiasing", type=float, default=1.0, help="sigma_0, input px; 0: no A_0")
    bound.add_argument(
        "--kernels",
        nargs="+",
        default=["exponential"],
        help="one, or one per layer: " + ", ".join(KERNELS) + "; with parameters: exponential:2.37, "
        "polynomial:degree=3,offset=1",
    )
    bound.add_argument("--displacement", type=float, help="sup |tau|, px")
    bound.add_argument("--jacobian", type=float, help="sup ||grad tau||_2, in [0, 1)")
    bound.add_argument("--hessian", type=float, help="sup of the second derivatives, 1 / px")
    bound.add_argument("--divergence", type=float, help="sup |div tau|")
    bound.add_argument("--mean", type=float, default=0.0, help="|c| of a constant c to split off, px")
    bound.add_argument("--residual", type=float, help="sup |tau - c|, px")
    bound.add_argument("--volume-preserving", action="store_true", help="det(I - grad tau) = 1 everywhere")
    bound.add_argument("--boundary", default="periodic", help="what lies beyond the border: " + ", ".join(BOUNDARIES))
    bound.add_argument("--vanishing-border", type=float, help="width in which tau = 0 at the border, px; for zero")
    bound.add_argument("--dimension", type=int, default=2, help="1 for signals, 2 for images")
    bound.add_argument("--tangent-kernel", action="store_true", help="the neural tangent kernel instead of the CKN")
    bound.add_argument("--constants", action="store_true", help="print the table of all constants instead")
    bound.add_argument(
        "--fixed-invariance",
        type=float,
        nargs=2,
        metavar=("SIGMA_0", "SIGMA_N"),
        help="print the bounds against patch size and depth between two scales, input px, instead",
    )
    bound.add_argument("--most-layers", type=int, default=12, help="for --fixed-invariance")
    return [Command("bound", "the theorem as a calculator", bound, run)]


def run(options: Namespace) -> int:
    """Print the bound with every term and constant, and every theorem against depth; or one of the tables."""
    if options.constants:
        from stability.bounds.constants_table import constants_table

        print(constants_table(d=options.dimension).to_text())
        return 0
    _require(options, ["displacement", "jacobian"])
    known = [options.jacobian]
    if options.dimension == 1 and options.divergence is not None:
        known.append(options.divergence)  # of a signal's field it is the gradient
    if min(known) >= 1:
        raise ValueError(
            f"jacobian must be in [0, 1) for id - tau to be a diffeomorphism, got {min(known):g}; "
            "the theorem says nothing beyond"
        )
    from stability.bounds.field import field_norms

    norms = field_norms(
        displacement_norm=options.displacement,
        jacobian_norm=options.jacobian,
        hessian_norm=options.hessian,
        divergence_norm=options.divergence,
        mean_displacement=options.mean,
        residual_displacement=options.residual,
        volume_preserving=options.volume_preserving,
        d=options.dimension,
    )
    if options.fixed_invariance:
        from stability.bounds import invariance

        if options.mean or options.residual is not None:
            raise ValueError(
                "mean and residual must be left out with --fixed-invariance, got one; it does not use them"
            )
        first, final = options.fixed_invariance
        print(
            invariance.to_text(invariance.over_layers(options.most_layers, sigma_0=first, sigma_n=final, field=norms))
        )
        return 0
    _require(options, ["patch_sizes", "pooling_scales"])
    network = architecture(options.patch_sizes, options.pooling_scales, options.subsampling, options.kernels, options)
    if options.tangent_kernel:
        from stability.bounds.ntk import tangent_kernel_form

        print(tangent_kernel_form(network, norms, options.vanishing_border).to_text())
        return 0
    from stability.bounds import over_depth

    networks = over_depth.first_layers(network)
    forms = over_depth.over_depth(networks, norms, vanishing_border=options.vanishing_border)
    print(forms[-1].to_text())
    if len(networks) > 1:
        print(f"the first n layers\n{over_depth.to_text(networks, forms)}")
    return 0


def _require(options: Namespace, names: list[str]) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if options[name] is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given, got nothing; see stability bound --help")


def architecture(
    sizes: list[int], scales: list[float], strides: list[int] | None, names: list[str], options: Namespace
) -> Architecture:
    """The architecture that the options describe, one value per layer.

    Raises:
        ValueError: if a list has another length than the patch sizes.
    """
    strides = strides or [1] * len(sizes)
    kernels = [kernel(name) for name in names]
    kernels = kernels * len(sizes) if len(kernels) == 1 else kernels
    for name, values in (("pooling-scales", scales), ("subsampling", strides), ("kernels", kernels)):
        if len(values) != len(sizes):
            raise ValueError(f"{name} must have one value per layer ({len(sizes)}), got {len(values)}; see patch-sizes")
    layers = zip(sizes, scales, strides, kernels, strict=True)
    boundary = resolve("boundary", options.boundary, BOUNDARIES)()
    return Architecture(tuple(Layer(*layer) for layer in layers), options.antialiasing, boundary)


def kernel(text: str) -> Kernel:
    """The kernel that ``NAME``, ``NAME:VALUE`` (its first parameter) or ``NAME:FIELD=VALUE,...`` describes.

    Raises:
        ValueError: for an unknown name or parameter, or a value out of range.

    >>> kernel("exponential:2.37"), kernel("polynomial:degree=3,offset=2"), kernel("gelu")
    (Exponential(alpha=2.37), Polynomial(degree=3, offset=2.0), GELU())
    """
    name, _, parameters = text.partition(":")
    name = name.replace("_", "-")
    chosen = resolve("kernel", name, KERNELS)
    if not parameters:
        return chosen()
    kind = name.replace("-", "_")
    if kind not in KINDS:
        raise ValueError(f"kernel {name} must have no parameters, got {text!r}; use for example exponential:2.37")
    fields = [field.name for field in dataclasses.fields(KINDS[kind])]
    data: dict[str, Any] = {"kind": kind}
    for part in parameters.split(","):
        key, equals, value = part.rpartition("=")
        if not equals and not fields:
            raise ValueError(f"kernel {name} must have no parameters, got {text!r}; use {name}")
        try:
            data[key if equals else fields[0]] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(
                f"kernel must be NAME, NAME:VALUE or NAME:FIELD=VALUE,..., got {text!r}; use for example "
                "exponential:2.37"
            ) from None
    made: Kernel = build("kernel", data, KINDS)
    return made
