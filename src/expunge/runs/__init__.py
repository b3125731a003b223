"""Runs: the plan that decides a result, its cost, the folder that holds it, and its export.

Judges no image; measuring is in `evaluation`.
"""
