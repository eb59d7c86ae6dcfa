"""The search for the field of two sup-norm balls that moves a representation most: lower bounds of the supremum."""
