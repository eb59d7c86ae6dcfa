"""The operators of one layer: patches P and Gaussian pooling A on the torus."""
