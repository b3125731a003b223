"""The retrained control that comes with the canvas, so that audits of the canvas need no training of their own."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "without-six"
"""The run folder of a canvas that was retrained without neon, dots, watercolour, ring, starfish and hexagon."""
