"""Model families behind one protocol: loading, prompts, predictions, sampling, scopes and deltas.

Only this package and `canvas` import diffusers; nobody outside sees a pipeline.
"""
