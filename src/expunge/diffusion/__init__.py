"""The mathematics of diffusion: the noise path, points on it, losses, divergences and the decomposition of information.

Knows no network architecture and no file.
"""
