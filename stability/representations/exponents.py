"""The kernels that sums of Gaussians can stand for."""

from stability.architecture import Architecture


def exponents(architecture: Architecture) -> list[float]:
    """alpha of every layer's kernel exp(alpha (cos - 1)); ``ValueError`` if there is another one."""
    found = [layer.kernel.exponent for layer in architecture.layers]
    if any(alpha is None for alpha in found):
        raise ValueError(
            f"kernels must be Exponential for sums of Gaussians, got {[la.kernel for la in architecture.layers]}; "
            "use CKN for others"
        )
    return [float(alpha) for alpha in found if alpha is not None]
