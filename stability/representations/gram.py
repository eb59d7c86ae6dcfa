r"""``GramCKN``: the exact, infinite-dimensional convolutional kernel network, through its kernel."""

from stability.representations.pairs import PairRepresentation


class GramCKN(PairRepresentation):
    r"""||Phi_n(x) - Phi_n(y)||^2 = K_n(x, x) + K_n(y, y) - 2 K_n(x, y), exact in the infinite-dimensional RKHS.

    K_0(u, v) = <A_0 F x(u), A_0 F y(v)>; each layer averages over its patch, K(u, v) = mean_c G(u + c, v + c), applies
    |z| |z'| kappa(cos) and pools in both arguments; K_n(x, y) is the cell area times the trace. With kernels dual to an
    activation it is the kernel of the Gaussian process that a random network of infinite width is (NNGP).

    Args:
        architecture: kernels, patches, scales and strides; periodic boundary.
        refinement: evaluate on grids r times as fine (the images must be given on such a grid), with scales and
            patch spacings in the same INPUT pixels: how much the value changes from r = 1 to r = 2 is the
            discretisation error of the network.

    Computes in float64 on the images' device, one pair of images at a time (small last layers of several together),
    holding about 2 MB of every layer's pairs, at most 128 MB that wait to be pooled and about four arrays of (H' W')^2
    entries, H' x W' being the grid of layer 2. Distances can be differentiated in the second image.

    Reference: Bietti & Mairal 2019, section 2; Mairal 2016.

    >>> import torch
    >>> from stability.architecture import Architecture
    >>> arch = Architecture.dyadic(depth=2, subsampling=1)
    >>> x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    >>> round(GramCKN(arch).norm(x).item(), 9)  # kernel maps preserve norms, and pooling a constant changes nothing
    8.0
    """
