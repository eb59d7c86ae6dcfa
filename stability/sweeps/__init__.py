"""Sweeps: a specification in, tidy rows out."""
