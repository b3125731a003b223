"""White-box prompt search: what is lowered, among which words, and that what is found can be typed."""

import pytest
import tiny
import torch
from attacks.victims import victim
from torch.nn import functional as F

from expunge import schedule
from expunge.attacks import P4D, PromptSearch, Victim
from expunge.concept import naming
from expunge.denoiser.words import BLANK, Words
from expunge.types import ExpungeError, Point
from expunge.weights import swapped

SMALL = {"iterations": 6, "tries": 2, "points": 2}


def valued(attack: PromptSearch, attacked: Victim, prefixes: list[str]) -> torch.Tensor:
    """The loss of each plain prompt's prefix, by the attack."""
    words = Words(attacked.denoiser)
    written = words.write([f"{BLANK} {p}" for p in attacked.asked()[0]], attack.tokens)
    losses = attack._losses(attacked, words, written)
    ids = torch.tensor([words.tokenizer(p, add_special_tokens=False).input_ids for p in prefixes])
    with swapped(attacked.denoiser.net, attacked.delta), torch.no_grad():
        return losses(words.vectors(ids), list(range(len(prefixes))))


@pytest.mark.parametrize("cls", [PromptSearch, P4D])
def test_the_loss_is_that_of_the_typed_prompt_on_the_untouched_models_picture(cls, tmp_path):
    """By hand, from the words on: the picture from the reading's own noise, its noised places, the two models there."""
    attacked, attack = victim(tmp_path, pictures=2), cls(points=2)
    denoiser, (prompts, seeds) = attacked.denoiser, attacked.asked()
    clean = denoiser.latents(denoiser.encode(prompts), seeds, denoiser.default_sampler)
    x_t, t, goal = attack._points(attacked)
    assert t.tolist() == [250, 750] * 2
    # The noise follows from x_t and the picture.
    signal, sigma = (f(denoiser.alphas_cumprod[t].float())[:, None, None, None] for f in (torch.sqrt, lambda a: (1 - a).sqrt()))
    noise = (x_t - signal * clean.repeat_interleave(2, 0)) / sigma
    torch.testing.assert_close(schedule.add_noise(clean.repeat_interleave(2, 0), noise, t, denoiser.alphas_cumprod), x_t)

    def at(texts: list[str]) -> torch.Tensor:
        return denoiser(Point(x_t, t, denoiser.encode([p for p in texts for _ in range(2)]), ("",) * 4))

    prefixes = ["ring disc box", "dots lily coin"]
    with torch.no_grad():
        untouched = at(prompts)
        with swapped(denoiser.net, attacked.delta):
            predicted, own = at([f"{w} {p}" for w, p in zip(prefixes, prompts, strict=True)]), at(prompts)
    wanted = noise if cls is PromptSearch else untouched
    torch.testing.assert_close(goal, wanted, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(goal, own, rtol=1e-3, atol=1e-3)  # the victim's own prediction would be no goal
    by_hand = torch.stack([F.mse_loss(predicted[i : i + 2], wanted[i : i + 2]) for i in (0, 2)])
    torch.testing.assert_close(valued(attack, attacked, prefixes), by_hand, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cls", [PromptSearch, P4D])
def test_the_search_never_loses_ground_and_what_it_finds_can_be_typed(cls, tmp_path, monkeypatch):
    monkeypatch.setattr(cls, "AT", (0, 2))
    attacked, attack = victim(tmp_path), cls(**SMALL)
    _, *found = attack(attacked)
    assert [r.strength for r in found] == [2, 6]
    plain, seeds = attacked.asked()
    prefixes = [[k.removesuffix(f" {p}") for k, p in zip(r.cond.keys, plain, strict=True)] for r in found]
    assert all(len(words.split()) == attack.tokens for reading in prefixes for words in reading)
    losses = [valued(attack, attacked, reading) for reading in prefixes]
    assert (losses[1] <= losses[0] + 1e-6).all()
    for reading in found:
        assert torch.equal(reading.cond.states, attacked.denoiser.encode(list(reading.cond.keys)).states)
        assert reading.noise_seeds == tuple(seeds)
        assert reading.weights.keys() == attacked.delta.keys()


def test_no_prefix_holds_a_name_of_the_concept(tmp_path):
    """Also not its synonym, which was not erased with it: that is another attack."""
    attacked = victim(tmp_path, pictures=4)
    *_, last = PromptSearch(tokens=5, iterations=3, tries=6, points=1)(attacked)
    for key, prompt in zip(last.cond.keys, attacked.asked()[0], strict=True):
        assert key.endswith(f" {prompt}")
        assert not naming(attacked.concept.known).search(key.removesuffix(f" {prompt}"))


def test_the_two_names_differ_in_their_aim_alone():
    assert P4D(aim="classifier-free", tokens=2).aim == PromptSearch().aim
    assert [getattr(P4D(), n) for n in ("tokens", "iterations", "tries", "points")] == [
        getattr(PromptSearch(), n) for n in ("tokens", "iterations", "tries", "points")
    ]


def test_the_untouched_model_matches_itself_without_a_prefix(tmp_path):
    """At 0 the victim draws as the untouched model: the goal of `match` is what it predicts under the plain prompt."""
    attacked, attack = victim(tmp_path, delta={}), P4D(points=2)
    x_t, t, goal = attack._points(attacked)
    cond = attacked.denoiser.encode([p for p in attacked.asked()[0] for _ in range(2)])
    with torch.no_grad():
        assert torch.equal(attacked.denoiser(Point(x_t, t, cond, ("",) * len(t))), goal)


def test_a_prefix_that_has_no_room_is_refused_before_any_work(tmp_path):
    with pytest.raises(ExpungeError, match=r"fits the text encoder's 12 tokens: .* take fewer tokens"):
        next(PromptSearch(tokens=9)(victim(tmp_path, pictures=11)))


def test_pictures_that_are_in_the_store_cost_nothing(tmp_path):
    attacked = victim(tmp_path)
    before, _ = PromptSearch(**SMALL).cost(attacked)
    list(PromptSearch(**SMALL)(attacked))
    after, _ = PromptSearch(**SMALL).cost(attacked)
    sampler = tiny.denoiser().default_sampler
    assert before - after == attacked.pictures * sampler.steps * 2
