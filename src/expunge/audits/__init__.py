"""Audits: a battery of attacks on a run and on its controls, under a budget, and the verdict.

The attacks themselves are in `attacks`; pages are in `reports`.
"""
