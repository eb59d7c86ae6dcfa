r"""The trivial bound for every field: how far an image itself can move, times the Lipschitz constants behind it.

    ||Phi(W x) - Phi(x)|| <= prod_k rho_k g_k ||A_0 F (W x - x)|| <= prod_k rho_k g_k ||A_0 (L_tau x - x)||,
    ||A_0 (L_tau x - x)|| <= min( c_{d/2}(b) a ||grad x||, (1 + ||L_tau||) ||x - mean x||, what the last pooling adds ),

for the network as it is sampled (g_k: the norm of "pool, then keep every s-th position") and W x the projection of the
exact L_tau x on the band-limited images of the grid: the projection commutes with A_0 and does not expand, F commutes
with A_0 and does not expand. No allowance but round-off. Proof: docs/certified.md.
"""

from stability.bounds.field import FieldNorms, c_p
from stability.bounds.forms import last_pooling
from stability.ladders.energies import Spectrum
from stability.ladders.energy import pooled_change


def input_change(norms: FieldNorms, image: Spectrum) -> float:
    """The least bound of ||A_0 (L_tau x - x)|| over every tau with these norms, in the unit of ||x||.

    Args:
        norms: of the field; b < 1.
        image: spectrum of x with the scale of A_0; 0: no A_0.
    """
    whole = Spectrum(image.power, image.frequencies, 0.0)
    bounds = [
        c_p(norms.d / 2, norms.jacobian) * norms.displacement * whole.gradient,
        (1.0 + norms.warp) * whole.centred,
    ]
    if image.sigma > 0:
        # A_0 L x - A_0 x = (A_0 L - A_0) x, what the last pooling of a network without layers adds
        bounds.append(pooled_change(norms, image, last_pooling(norms, image.sigma, norms.displacement).value))
    return min(bounds)
