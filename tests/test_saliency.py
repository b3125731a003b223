"""The most salient entries by hand and against sorting."""

import pytest
import torch
from raising import raises_error

from expunge.methods._saliency import select_salient


@pytest.mark.parametrize("share", [1e-9, 0.001, 0.1, 0.5, 0.9, 1.0])
def test_they_are_those_that_sorting_finds(share: float):
    slopes = {"a": torch.randn(40, 30), "b": 1e-3 * torch.randn(50), "c": 1e-30 * torch.randn(7, 3, 3, 3), "d": torch.zeros(())}
    everything = torch.cat([s.flatten() for s in slopes.values()]).abs()
    kept = max(1, round(share * len(everything)))
    gamma = everything.sort(descending=True).values[kept - 1]
    masks = select_salient(slopes, share)
    assert {n: m.shape for n, m in masks.items()} == {n: s.shape for n, s in slopes.items()}
    assert all(torch.equal(masks[n], s.abs() >= gamma) for n, s in slopes.items())
    assert sum(int(m.sum()) for m in masks.values()) == kept


def test_the_share_is_of_all_together_and_not_of_each():
    masks = select_salient({"steep": torch.tensor([5.0, -4.0]), "flat": torch.tensor([[0.1], [-3.0]])}, 0.5)
    assert masks["steep"].tolist() == [True, True]
    assert masks["flat"].tolist() == [[False], [False]]


def test_equal_ones_are_kept_together():
    assert select_salient({"w": torch.tensor([1.0, -1.0, 1.0, 0.5])}, 0.25)["w"].tolist() == [True, True, True, False]


def test_neighbouring_floats_are_told_apart():
    one = torch.tensor(1.0)
    ladder = torch.stack([one, torch.nextafter(one, one + 1), torch.nextafter(one, one - 1)])
    assert select_salient({"w": ladder}, 1 / 3)["w"].tolist() == [False, True, False]
    assert select_salient({"w": ladder}, 2 / 3)["w"].tolist() == [True, True, False]


def test_a_slope_of_any_memory_layout_is_ranked():
    slope = torch.randn(6, 4).T
    assert torch.equal(select_salient({"w": slope}, 0.5)["w"], select_salient({"w": slope.contiguous()}, 0.5)["w"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_slope_that_is_not_finite_is_refused(bad: float):
    with raises_error("gradient-not-finite", "w"):
        select_salient({"v": torch.ones(2), "w": torch.tensor([1.0, bad])}, 0.5)
