"""The world's drawings and words."""

import pytest
import torch

from expunge.canvas.draw import RENDERERS, draw, polygon, star
from expunge.canvas.prompts import FAMILIES, OBJECTS, PLAIN, STYLES, VOCABULARY, prompt
from expunge.canvas.training.train import make_caption, random_pairs, select_batch


def test_the_same_seed_draws_the_same_bytes():
    objects, styles = torch.arange(20).repeat_interleave(11), torch.arange(11).repeat(20)
    first = draw(objects, styles, 3)
    assert first.shape == (220, 3, 64, 64)
    assert torch.equal(first, draw(objects, styles, 3))
    assert not torch.equal(first, draw(objects, styles, 4))


def test_every_object_differs_from_its_siblings_in_every_style():
    """Same geometry and palette, another member: the picture changes in many pixels."""
    for style in range(11):
        pictures = torch.stack([draw(torch.tensor([o]), torch.tensor([style]), 0)[0].float() for o in range(20)])
        for start in range(0, 20, 4):
            family = pictures[start : start + 4].flatten(1)
            gaps = (family[:, None] - family[None]).abs().gt(40).float().mean(-1) + torch.eye(4)
            assert gaps.min() > 0.01, (style, start)


@pytest.mark.parametrize("n", [3.0, 4.0, 5.0, 6.0])
def test_polygons_have_equal_area(n):
    """Size must not betray the number of sides: each covers 1.8 of the square's 4."""
    axis = (torch.arange(400) + 0.5) / 100 - 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    area = (polygon(x[None], y[None], torch.tensor(n)) < 0).float().sum() * 0.01**2
    assert area.item() == pytest.approx(1.8, abs=0.02)


def test_a_star_reaches_its_tip_and_no_further():
    y = torch.tensor([[[-0.999], [-1.001]]])
    assert (star(torch.zeros_like(y), y, torch.tensor(5.0)) < 0).flatten().tolist() == [True, False]


def test_words_are_distinct_and_families_have_four_siblings():
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 3 + 2 * 20 + 2 * 10
    assert [len(f) for f in FAMILIES.values()] == [4] * 5
    assert len(RENDERERS) == len(STYLES) + 1


def test_captions_are_true_of_their_picture_and_use_both_names():
    generator = torch.Generator().manual_seed(0)
    ring, neon = 17, 3
    seen = {make_caption(ring, neon, generator) for _ in range(400)}
    both = {prompt(o, s) for o in ("ring", "hoop") for s in ("neon", "glow")}
    assert seen == {""} | {"neon style", "glow style"} | both
    assert {make_caption(ring, PLAIN, generator) for _ in range(100)} == {"", "a ring", "a hoop"}


def test_batches_cover_an_epoch():
    seen = torch.cat([select_batch(step, 100, 20) for step in range(5)])
    assert sorted(seen.tolist()) == list(range(100))
    objects, styles = random_pairs(5000, 0)
    assert set(objects.tolist()) == set(range(len(OBJECTS)))
    assert (styles == PLAIN).float().mean().item() == pytest.approx(2 / 12, abs=0.03)
