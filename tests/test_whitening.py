"""Steps in coordinates in which prompts' tokens are white."""

from contextlib import nullcontext

import pytest
import tiny
import torch
from raising import raises_error
from torch import nn

from expunge.runs.plan import make_plan
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.preconditioner import Identity, Whitening, tokens, whitener

NAME = "down.attn2.to_k.weight"


def uneven(n: int = 400, width: int = 6) -> torch.Tensor:
    """Tokens with far more variance in some directions than in others, none of them an axis."""
    generator = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return torch.randn(n, width, generator=generator) * torch.tensor([10.0, 3, 1, 0.3, 0.1, 0.03])[:width] @ turned


def test_without_a_ridge_tokens_become_white():
    c = uneven().double()
    white = c @ whitener(c, 0.0)
    second = white.T @ white / len(c)
    torch.testing.assert_close(second, second.trace() / 6 * torch.eye(6, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    before = c.T @ c / len(c)
    assert (before - before.trace() / 6 * torch.eye(6)).abs().max() > 1  # they were not


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 1.0])
def test_tokens_keep_their_size_in_all(ridge):
    """Steps of one learning rate then change what is read as much, on the whole, with the whitening as without."""
    c = uneven()
    torch.testing.assert_close((c @ whitener(c, ridge)).square().sum(), c.square().sum())


def test_a_large_ridge_changes_nothing():
    torch.testing.assert_close(whitener(uneven(), 1e9), torch.eye(6), rtol=0, atol=1e-5)


def test_tokens_in_fewer_directions_than_they_have_room_for():
    c = uneven()
    c[:, 1:] = 0
    assert whitener(c, 1e-3).isfinite().all()


def descend(c: torch.Tensor, goal: torch.Tensor, u: torch.Tensor | None, steps: int, whole: bool = True) -> torch.Tensor:
    """W after Adam on || W c - goal ||^2 from zero; `whole` False whitens the gradient alone."""
    w = nn.Parameter(torch.zeros(goal.shape[1], c.shape[1]))
    trained, adam = {NAME: w}, torch.optim.Adam([w], lr=0.01)
    preconditioner = Identity() if u is None else Whitening({NAME: u})
    for _ in range(steps):
        adam.zero_grad()
        (c @ w.T - goal).square().mean().backward()
        preconditioner.change_gradients(trained)
        with preconditioner.stepping(trained) if whole else nullcontext():
            adam.step()
    return w.detach()


def test_a_step_is_adams_on_what_is_multiplied_by_the_whitener():
    """Against the definition: D trained by Adam in W = D U. Whitening the gradient alone is another thing."""
    c, goal = uneven(8), torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    u = whitener(uneven(), 0.01)
    d = nn.Parameter(torch.zeros(3, 6))
    adam = torch.optim.Adam([d], lr=0.01)
    for _ in range(5):
        adam.zero_grad()
        (c @ (d @ u).T - goal).square().mean().backward()
        adam.step()
    torch.testing.assert_close(descend(c, goal, u, 5), (d @ u).detach(), rtol=1e-5, atol=1e-6)
    assert (descend(c, goal, u, 5, whole=False) - (d @ u).detach()).abs().max() > 1e-3


def test_a_word_moves_and_the_one_beside_it_stays():
    """Two words that share most of what they are: at equal change of the one, whitened steps change the other less."""
    shared, own, generator = torch.tensor([10.0, 0, 0]), 0.5, torch.Generator().manual_seed(0)
    word, sibling = shared + own * torch.tensor([0.0, 1, 0]), shared + own * torch.tensor([0.0, 0, 1])
    prompts = torch.cat([word[None], sibling[None], shared + own * torch.randn(60, 3, generator=generator)])

    def harm(u: torch.Tensor | None) -> float:
        for steps in range(1, 2000):
            w = descend(word[None], torch.ones(1, 2), u, steps)
            if (w @ word).mean() > 0.9:
                return (w @ sibling).mean().item()
        raise AssertionError("the word did not move")

    assert harm(None) > 0.85  # the sibling goes along
    assert harm(whitener(prompts, 1e-3)) < 0.6


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        ridge: unlearn(
            tiny.model(), tiny.concept(), "esd", training=tiny.TRAINING | {"steps": 1, "whiten": ridge},
            out=folder / str(ridge), cache=Store(folder / "store"),
        )
        for ridge in (0.0, 0.01)
    }  # fmt: skip


def test_only_what_reads_tokens_is_stepped_so(runs):
    plain, white = (runs[ridge].delta() for ridge in (0.0, 0.01))
    moved = {name for name in plain if not torch.equal(plain[name], white[name])}
    assert moved == {name for name in plain if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}


def test_factors_of_low_rank_are_whitened_where_they_read_tokens(tmp_path):
    """B begins at zero, so the first step moves B alone and the second A; B reads no tokens."""
    made = [
        unlearn(
            tiny.model(), tiny.concept(), "esd", variant="xattn-lora", training=tiny.TRAINING | {"steps": steps, "whiten": ridge},
            out=tmp_path / f"{steps}-{ridge}", cache=Store(tmp_path / "store"),
        ).delta()
        for steps in (1, 3) for ridge in (0.0, 0.01)
    ]  # fmt: skip
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert any(not torch.equal(made[2][name], made[3][name]) for name in made[2])


def test_tokens_are_those_of_the_prompts_that_the_method_speaks_of():
    model, concept = tiny.model(), tiny.concept()
    c = tokens(model, concept)
    assert c.shape[1] == 96
    rows = c.unflatten(0, (-1, model.pipeline.tokenizer.model_max_length))
    for text in ("neon style", "a ring in dots style", ""):
        assert (rows == model.encode([text]).states).flatten(1).all(1).any(), text


def test_a_mask_and_whitened_steps_exclude_each_other(tmp_path):
    with raises_error("mask-and-whitening", 0.01, "--whiten 0"):
        unlearn(tiny.model(), tiny.concept(), "salun", training=tiny.TRAINING | {"whiten": 0.01}, out=tmp_path, cache=Store(tmp_path / "s"))


def test_whitened_steps_without_what_reads_tokens_are_refused(tmp_path):
    """They would change nothing, while the card says that they had: ESD's default trained on all but cross-attention."""
    with raises_error("nothing-to-whiten", 0.001, "--whiten 0"):
        make_plan(tiny.model(), tiny.concept(), "esd", variant="non-xattn")
    make_plan(tiny.model(), tiny.concept(), "esd", variant="non-xattn", training={"whiten": 0.0})


def test_a_later_stage_of_a_sequence_knows_the_tokens_of_what_was_removed_before():
    """No other prompt holds them, so that whitened steps would be long along them: on the canvas watercolour was back in half of its
    pictures after hexagon had been removed."""
    model = tiny.model()
    first, later = make_plan(model, [tiny.concept("neon"), tiny.concept("ring")], "mim-mu", together="sequential").stages

    def holds(stage, text: str) -> bool:
        c = tokens(model, stage.concept).unflatten(0, (-1, model.pipeline.tokenizer.model_max_length))
        return bool((c == model.encode([text]).states).flatten(1).all(1).any())

    assert all(holds(later, text) for text in ("neon style", "a square in neon style", "glow style", "a ring"))
    assert holds(first, "neon style")
    assert not holds(first, "glow style")  # not given, and nothing of it removed yet
