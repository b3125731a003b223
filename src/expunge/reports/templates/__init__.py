"""Jinja templates and the style sheet of all pages.

Holds no code.
"""
