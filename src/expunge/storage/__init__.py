"""Files, tensors, locks and the cache on disk, and the hashes that name what they hold.

Knows no concept, model or method.
"""
