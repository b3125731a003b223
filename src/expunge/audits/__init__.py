"""Audits: the attacks of a budget on a run and on its controls, and a verdict for each attack.

The attacks themselves are in `attacks`; pages are in `reports`.
"""
