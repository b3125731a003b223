"""The studio: a page in the browser that compares a run with its base model, and what the page needs.

Serves and samples. Decides nothing that a command does not decide as well, and never starts a run.
"""
