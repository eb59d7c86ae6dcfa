"""Functions of the reproducing kernel Hilbert space: predictors, their norms, and how much a prediction can change."""
