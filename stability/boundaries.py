"""What lies beyond the image's border: the rule by which a window's image is continued. Frozen values, no tensors."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Periodic:
    """The torus: the setting in which the theorems hold for sampled images without a caveat."""


@dataclass(frozen=True)
class Reflect:
    """Half-sample symmetric: x is continued evenly about -1/2 and N - 1/2, the borders of the first and last pixel.

    The continued image lives on the torus of twice the side, is continuous and has no Nyquist mode there: exactly the
    cosine polynomials of the type-II discrete cosine transform.

    Convention: ``mode="reflect"`` of ``scipy.ndimage``, ``mode="symmetric"`` of ``numpy.pad``: (d c b a | a b c d).
    """


@dataclass(frozen=True)
class Zero:
    """x is 0 at every pixel beyond the window.

    Convention: ``mode="grid-constant"`` of ``scipy.ndimage``, ``mode="constant"`` of ``numpy.pad``.
    """


Boundary = Periodic | Reflect | Zero
"""A boundary rule of a warp."""

NetworkBoundary = Periodic | Zero
"""A boundary rule of an ``Architecture``: what its patches and poolings read beyond the border of every map."""

PERIODIC = Periodic()
"""The default of functions that take a rule."""


def check_boundary(boundary: Boundary) -> Boundary:
    """The rule, if it is one.

    Raises:
        ValueError: for anything but ``Periodic()``, ``Reflect()`` and ``Zero()``.
    """
    if not isinstance(boundary, Periodic | Reflect | Zero):
        raise ValueError(f"boundary must be Periodic(), Reflect() or Zero(), got {boundary!r}; use stability.Reflect()")
    return boundary
