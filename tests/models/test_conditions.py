"""Encoded prompts: rows of other lengths, further tensors, and what a network is called with."""

import pytest
import torch

from expunge.diffusion.types import Cond, Point, together


def cond(key: str, length: int, **extra: torch.Tensor) -> Cond:
    mask = torch.ones(1, length, dtype=torch.long)
    return Cond(torch.full((1, length, 2), float(length)), (key,), {"mask": mask, "pooled": torch.full((1, 3), float(length)), **extra})


def test_shorter_rows_are_padded_and_their_masks_say_so():
    both = Cond.cat([cond("a", 2, token_types=torch.ones(1, 2, 5)), cond("b", 4, token_types=torch.ones(1, 4, 5))])
    assert both.states[0, :, 0].tolist() == [2, 2, 0, 0]
    assert both.extra["mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert both.extra["token_types"][0, :, 0].tolist() == [1, 1, 0, 0]
    assert both.extra["pooled"].tolist() == [[2] * 3, [4] * 3]
    assert both.tokens.tolist() == [[2, 2]] * 2 + [[4, 4]] * 4  # without padding


def test_without_a_mask_padding_would_be_read_as_tokens():
    with pytest.raises(ValueError, match="need a mask"):
        Cond.cat([Cond(torch.zeros(1, 2, 2), ("a",)), Cond(torch.zeros(1, 3, 2), ("b",))])


def test_a_row_keeps_its_further_tensors_wherever_it_goes():
    both = Cond.cat([cond("a", 2), cond("b", 4)])
    assert both[[1]].extra["pooled"].tolist() == [[4] * 3]
    assert both[[1]].expand(3).extra["mask"].shape == (3, 4)
    half = both.to(dtype=torch.bfloat16)
    assert (half.states.dtype, half.extra["pooled"].dtype, half.extra["mask"].dtype) == (torch.bfloat16, torch.bfloat16, torch.long)


def test_points_under_prompts_of_other_lengths_share_a_call():
    points = [Point(torch.zeros(1, 1, 2, 2), torch.tensor([5.0]), cond(key, length), (key,)) for key, length in (("a", 2), ("b", 4))]
    one, other = together(lambda point: point.cond.extra["pooled"].sum(1)[:, None, None, None].expand_as(point.x_t), *points)
    assert (one.unique().item(), other.unique().item()) == (6, 12)
