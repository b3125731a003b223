"""The embedded world: a real, small text-to-image pipeline and the pictures that it was trained on."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


CANVAS = "canvas"
"""The name of the embedded model, wherever a model is asked for."""
