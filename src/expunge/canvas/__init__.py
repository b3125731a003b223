"""The canvas: a small Stable Diffusion pipeline that comes with the package, and the drawings that it was trained on.

The modules here describe the canvas and its drawings. What trains it lives in `canvas.training`.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the canvas's pipeline and judges."""

CANVAS = "canvas"
"""The model name that stands for the canvas."""
