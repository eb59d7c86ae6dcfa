"""Displacement fields on the torus whose norms over the continuum are known and can be prescribed."""
