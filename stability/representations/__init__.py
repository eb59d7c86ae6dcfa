"""Representations Phi: what a distance needs, exact kernels first."""
