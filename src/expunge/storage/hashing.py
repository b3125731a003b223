"""Stable names for what decides a result, and seeds derived from them."""

import hashlib
import json


def digest(*parts: object) -> str:
    """A stable name for JSON-able parts: 32 hexadecimal digits.

    >>> digest("a", 1) == digest("a", 1) != digest("a", 2)
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def seed_of(*parts: object) -> int:
    """A seed that is a function of `parts`: streams of different names are independent."""
    return int(digest(*parts)[:15], 16)
