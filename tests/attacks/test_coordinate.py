"""The search among words, on losses whose least value is known."""

from itertools import pairwise

import pytest
import tiny
import torch

from expunge.attacks._coordinate_search import CoordinateSearch, sample_words
from expunge.models.text_encoder import Words

ROWS, BLANKS = 3, 2


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(tiny.model())


def searched(words: Words, losses, tries: int, steps: int, batch: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Words and losses before each step and after the last."""
    among = words.candidates(["neon"])
    search = CoordinateSearch(words, among, losses, sample_words(among, ROWS, BLANKS, 0), tries, batch)
    path = [(search.ids, search.losses.clone())]
    for _ in range(steps):
        search.step()
        path.append((search.ids, search.losses.clone()))
    return path


def test_a_linear_loss_falls_to_its_least_value_one_word_a_step(words):
    """L = sum_i <a_i, v_i>: the promise is then exact, so the first change tried is the best, and each word is changed once."""
    slopes = torch.randn(ROWS, BLANKS, 96, generator=torch.Generator().manual_seed(0))
    among = words.candidates(["neon"])
    best = among[(slopes @ words.vectors(among).T).argmin(2)]
    *_, before, (ids, losses) = searched(words, lambda vectors, rows: (vectors * slopes[rows]).sum((1, 2)), tries=1, steps=BLANKS)
    assert torch.equal(ids, best)
    torch.testing.assert_close(losses, (words.vectors(best) * slopes).sum((1, 2)))
    assert not torch.equal(before[0], best)


def test_it_finds_words_that_are_there_and_the_loss_never_rises(words):
    """Of a loss that is not linear, and to which words matter together."""
    among = words.candidates(["neon"])
    hidden = among[torch.tensor([[3, 5], [7, 11], [13, 2]])]
    mixed = torch.randn(BLANKS, BLANKS, generator=torch.Generator().manual_seed(1)) + 2 * torch.eye(BLANKS)

    def losses(vectors, rows):
        return (mixed @ (vectors - words.vectors(hidden[rows]))).square().flatten(1).mean(1)

    path = searched(words, losses, tries=8, steps=40)
    assert torch.equal(path[-1][0], hidden)
    assert all((b <= a).all() for (_, a), (_, b) in pairwise(path))
    with torch.no_grad():
        assert all(torch.allclose(losses(words.vectors(ids), [0, 1, 2]), value) for ids, value in path[1:])


def test_a_step_takes_one_gradient_and_so_many_tries_of_each_row_also_when_nothing_is_left_to_try(words, monkeypatch):
    graded, tried = [], []

    def losses(vectors, rows):
        (graded if torch.is_grad_enabled() else tried).append(len(rows))
        return vectors.square().sum((1, 2))

    monkeypatch.setattr(words, "candidates", lambda names: torch.tensor([300, 301]))
    searched(words, losses, tries=6, steps=5)
    assert (sum(graded), sum(tried)) == (5 * ROWS, 5 * ROWS * 6)


def test_a_change_that_was_tried_in_vain_is_not_tried_again(words):
    """A flat loss: nothing is ever better, so after as many steps as it takes all changes were tried, each once."""
    seen = []

    def losses(vectors, rows):
        if not torch.is_grad_enabled():
            seen.extend(tuple(v.flatten().tolist()) for v, row in zip(vectors, rows, strict=True) if row == 0)
        return (vectors * 0).sum((1, 2)) + 1

    among = words.candidates(["neon"])
    searched(words, losses, tries=BLANKS * (len(among) - 1) // 4, steps=4)
    assert len(seen) == len(set(seen)) >= BLANKS * (len(among) - 1) - 3


def test_rows_do_not_depend_on_how_they_are_batched(words):
    slopes = torch.randn(ROWS, BLANKS, 96, generator=torch.Generator().manual_seed(0))

    def losses(vectors, rows):
        return (vectors - slopes[rows]).square().sum((1, 2))

    one, other = (searched(words, losses, tries=3, steps=4, batch=batch)[-1] for batch in (1, 100))
    assert torch.equal(one[0], other[0])


def test_the_beginning_is_drawn_from_the_candidates_by_the_seed(words):
    among = words.candidates(["neon"])
    assert torch.isin(sample_words(among, 5, 3, 0), among).all()
    assert torch.equal(sample_words(among, 5, 3, 0), sample_words(among, 5, 3, 0))
    assert not torch.equal(sample_words(among, 5, 3, 0), sample_words(among, 5, 3, 1))
