"""Handwritten digits: a class-conditional model of real scans that comes with the package, and the scans that it was trained on.

The modules here name the data. What trains models of it lives in `digits.training`.
"""

from pathlib import Path

DIGITS = "digits"
"""The name of the embedded model, and of the judge that goes with it."""

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of its pipeline (`pipeline`) and its judge (`judge`)."""
