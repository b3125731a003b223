"""Digests name what decides a result: equal for equal values, and for no others."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from expunge.storage.hashing import digest, seed_of


@dataclass
class Thing:
    size: int = 1


@pytest.mark.parametrize("value", [{1, 2}, Path("a"), torch.float32, Thing(), object(), b"a", range(2)])
def test_what_json_does_not_hold_is_refused(value: object):
    """Its `str` may hold an address, or an order that another process has not."""
    for parts in ((value,), ([value],), ({"a": value},)):
        with pytest.raises(TypeError, match=f"{type(value).__name__}; name what tells it apart"):
            digest(*parts)


def test_digests_are_what_they_were():
    """Seeds and the keys of what is cached follow from them."""
    assert digest("a", 1, [2.5, None], {"b": True}) == "423960f9b84848b0e8f5c4975da9c2b3"
    assert seed_of(0, "picture", 3) == 519516092039949486


def test_the_order_of_keys_does_not_matter():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
