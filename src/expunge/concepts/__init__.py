"""Concepts: their names and prompts, the vocabularies that list them, groups of concepts, and their tables in files.

Nothing here knows a model or imports torch.
"""
