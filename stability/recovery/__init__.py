"""How much of an image a representation keeps: decoders, pre-images, inversion by gradient."""
