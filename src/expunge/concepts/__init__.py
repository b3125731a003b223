"""Concepts: their names and prompts, the vocabularies they come from, groups of them, and their tables in files.

Knows no model and imports no torch.
"""
