from dataclasses import replace

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.evaluation.metrics.base import Evidence, Shots, pool


def shots(probe: str = "siblings", seeds: tuple[int, ...] = (0, 1, 2)) -> Shots:
    n = len(seeds)
    prompts = tuple("abc"[:n])
    return Shots(probe, prompts, seeds, {"style": ("x", "y", None)[:n]}, {"style": ("x", "x", "x")[:n]}, torch.arange(2.0 * n).view(n, 2))


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"seeds": (0, 1)}, "2 seeds"),
        ({"wanted": {"style": ("x",)}}, "1 wanted labels of style"),
        ({"seen": {"style": ("x",) * 4}}, "4 seen labels of style"),
        ({"features": torch.zeros(2, 2)}, "2 features"),
    ],
)
def test_columns_are_of_one_length(change, column):
    with pytest.raises(ValueError, match=f"siblings has 3 prompts, {column}"):
        replace(shots(), **change)


def test_select_takes_rows_of_every_column():
    picked = shots().select([2, 0])
    assert (picked.prompts, picked.seeds) == (("c", "a"), (2, 0))
    assert (picked.wanted, picked.seen) == ({"style": (None, "x")}, {"style": ("x", "x")})
    assert picked.features.tolist() == [[4, 5], [0, 1]]


def test_cat_of_the_parts_is_the_whole():
    whole = shots()
    again = Shots.cat([whole.select([0]), whole.select([1, 2])])
    assert replace(again, features=None) == replace(whole, features=None)
    assert torch.equal(again.features, whole.features)


def test_cat_keeps_what_every_part_has():
    bare = replace(shots("target"), seen={}, features=None, wanted={"object": ("ring",) * 3})
    both = Shots.cat([shots(), bare])
    assert both.probe == "siblings+target"
    assert both.wanted == {"style": ("x", "y", None, None, None, None), "object": (None, None, None, "ring", "ring", "ring")}
    assert both.seen == {}
    assert both.features is None
    assert len(Shots.cat([])) == 0


def test_right_counts_only_what_the_prompt_says():
    assert shots().right("style") == [True, False]
    assert shots().right("object") == []


def test_a_picture_of_two_kinds_must_show_both():
    wanted = {"style": ("x", "x", None, None), "object": ("o", "o", "o", None)}
    seen = {"style": ("x", "x", "z", "z"), "object": ("o", "z", "o", "z")}
    assert Shots("target", tuple("abcd"), (0,) * 4, wanted, seen).right("style", "object") == [True, False, True]


def test_pool_uses_shared_seeds_in_one_order():
    parts = {"siblings": shots(), "target": shots("target", (2, 1)), "null": shots("null")}
    pooled = pool(parts, {"target", "siblings", "synonyms"})
    assert pooled.probe == "target+siblings"
    assert list(zip(pooled.prompts, pooled.seeds, strict=True)) == [("a", 2), ("b", 1), ("b", 1), ("c", 2)]


def test_pool_without_a_shared_seed_is_refused():
    with pytest.raises(ExpungeError, match="target, siblings share none"):
        pool({"target": shots("target", (5,)), "siblings": shots()}, {"target", "siblings"})


def test_pool_of_nothing_is_empty():
    assert len(pool({"siblings": shots().select([])}, {"siblings", "target"})) == 0


def test_base_pictures_are_paired():
    one, other = shots(), shots()
    assert Evidence("style", "object", {"siblings": one}, {}).drawn is None
    with pytest.raises(ValueError, match="those of siblings are not"):
        Evidence("style", "object", {"siblings": one}, {"siblings": replace(other, seeds=(0, 1, 3))})
    with pytest.raises(ValueError, match="those of siblings are not"):
        Evidence("style", "object", {"siblings": one}, {"siblings": other.select([1, 0, 2])})
    with pytest.raises(ValueError, match="same probes"):
        Evidence("style", "object", {"siblings": one}, {"target": other})
    with pytest.raises(ValueError, match="sibling is none"):
        Evidence("style", "object", {"sibling": one}, {})
