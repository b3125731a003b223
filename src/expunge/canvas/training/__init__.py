"""Train the canvas from random weights, with all concepts or without some, and measure its quality.

These are scripts that are run by hand. Only a suite or an attack that needs the canvas's training data imports them, lazily.
"""
