"""Random deformations of known size for training: a plain module, and a shell that kornia's containers understand."""
