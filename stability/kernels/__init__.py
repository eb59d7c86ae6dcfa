r"""Dot-product kernels kappa of a homogeneous layer, K(z, z') = |z| |z'| kappa(cos(z, z')).

Functions of the cosine (``Exponential``, ``InversePolynomial``, ``Polynomial``, ``Linear``) and dual kernels of
activations, kappa(u) = E[f(a) f(b)] / E[f(a)^2] for standard Gaussian (a, b) of correlation u: ``ArcCosine`` (ReLU,
step), ``LeakyReLU``, ``Erf``, ``GELU``, ``Sign``, ``Cosine`` in closed form, ``FromActivation`` for any f.

``import stability.kernels`` loads no torch.
"""

from stability.kernels.arc_cosine import ArcCosine as ArcCosine
from stability.kernels.arc_cosine import LeakyReLU as LeakyReLU
from stability.kernels.arc_cosine import Sign as Sign
from stability.kernels.base import Kernel as Kernel
from stability.kernels.dual import GELU as GELU
from stability.kernels.dual import Cosine as Cosine
from stability.kernels.dual import Erf as Erf
from stability.kernels.elementary import Exponential as Exponential
from stability.kernels.elementary import InversePolynomial as InversePolynomial
from stability.kernels.elementary import Linear as Linear
from stability.kernels.elementary import Polynomial as Polynomial
from stability.kernels.from_activation import FromActivation as FromActivation
from stability.kernels.from_activation import SeriesError as SeriesError
