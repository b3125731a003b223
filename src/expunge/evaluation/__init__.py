"""Measuring a run: images, judges, metrics, intervals and results.

`results` and `statistics` import no torch; nothing here changes a weight.
"""
