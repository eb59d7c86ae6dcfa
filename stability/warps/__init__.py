"""Warps L_tau x(u) = x(u - tau(u)): the only place where pixels move."""
