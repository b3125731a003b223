"""The retrained control that comes with the canvas, so that its audits need not wait for a training of their own."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "without-six"
"""The folder of a run of `expunge.canvas.training.retrain` that never saw neon, dots, watercolour, ring, starfish and hexagon."""
