r"""The taps of the Gaussian filter of the infinite line, whose symbol is exp(-sigma^2 omega^2 / 2) on |omega| <= pi."""

import math

import numpy as np
import torch
from torch import Tensor

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(24)
"""Gauss-Legendre nodes of a panel: exact to 1e-18 for waves of up to 16 radians on [-1, 1]."""
NO_ALIASES = 9.0
"""Where sigma pi is at least this, the symbol beyond pi is below 1e-17: the taps are samples of a Gaussian."""


def gaussian_taps(count: int, sigma: float, *, device: torch.device | str | None = None) -> Tensor:
    r"""h(j) = (1 / pi) int_0^pi exp(-sigma^2 w^2 / 2) cos(j w) dw for j = 0 ... count - 1, to a few 1e-16.

    h(-j) = h(j) and sum_j h(j) = 1. For small sigma the taps are not those of a sampled Gaussian: sigma -> 0 gives the
    identity. By Gauss-Legendre quadrature on panels; the phase of a panel's centre is reduced in integers, so that
    long filters lose nothing.

    Args:
        count: number of taps, >= 1.
        sigma: standard deviation in samples, > 0.
        device: where the taps are put.

    Returns:
        Tensor ``(count,)``, float64.

    >>> taps = gaussian_taps(40, 1.0)  # samples of a Gaussian: 0.398942
    >>> round(float(taps[0]), 6), round(float(taps[0] + 2 * taps[1:].sum()), 4)
    (0.398272, 1.0)
    """
    j = torch.arange(count, dtype=torch.int64)
    if sigma * math.pi >= NO_ALIASES:
        taps = torch.exp(-0.5 * (j.double() / sigma).square()) / (sigma * math.sqrt(2 * math.pi))
        return taps.to(device=device)
    panels = math.ceil(count / 4 + sigma)  # half a panel: at most 2 pi radians of the last tap, and 2 / sigma
    half = math.pi / (2 * panels)
    points, weights = torch.from_numpy(POINTS) * half, torch.from_numpy(WEIGHTS) * half
    odd = 2 * torch.arange(panels) + 1  # centres of the panels, in units of half a panel
    centre = math.pi / (2 * panels) * (j[:, None] * odd % (4 * panels)).double()  # (count, panels), mod 2 pi
    symbol = torch.exp(-0.5 * (sigma * (half * odd[:, None].double() + points)).square()) * weights  # (panels, points)
    waves = j[:, None].double() * points
    even_part, odd_part = torch.cos(waves) @ symbol.T, torch.sin(waves) @ symbol.T  # (count, panels)
    taps = (torch.cos(centre) * even_part - torch.sin(centre) * odd_part).sum(1) / math.pi
    return taps.to(device=device)
