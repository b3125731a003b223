"""Charts as SVG.

Draws given numbers; computes none.
"""
