"""White-box prompt search: what is lowered, among which words, and that what is found can be typed."""

from dataclasses import replace

import pytest
import tiny
import torch
from attacks.victims import victim
from raising import raises_error
from torch.nn import functional as F

from expunge.attacks.base import Victim
from expunge.attacks.prompt_search import P4D, VALIDATION_POINTS, PrefixLoss, PromptSearch
from expunge.diffusion.types import Point
from expunge.models.delta import swapped
from expunge.models.text_encoder import Words

SMALL = {"iterations": 6, "tries": 2, "points": 2}


def valued(attack: PromptSearch, attacked: Victim, prompts: list[str], count: int = 2, name: str = "search") -> torch.Tensor:
    """The loss of a prompt for each picture, by the attack."""
    aimed = attack._make_loss(attacked, count, name)
    with swapped(attacked.model.network, attacked.delta):
        return aimed.evaluate_all(attacked.model, attacked.model.encode(prompts))


@pytest.mark.parametrize("cls", [PromptSearch, P4D])
def test_the_loss_is_that_of_the_typed_prompt_on_the_untouched_models_picture(cls, tmp_path):
    """By hand, from the words on: the picture from the reading's own noise, its noised places, the two models there."""
    attacked, attack = victim(tmp_path, pictures=2), cls(points=2)
    model, (prompts, seeds) = attacked.model, attacked.asked()
    clean = model.sample_latents(model.encode(prompts), seeds, model.default_sampler)
    aimed = attack._make_loss(attacked, 2, "search")
    x_t, t, goal = aimed.x_t, aimed.t, aimed.goal
    assert t.tolist() == [250, 750] * 2
    # The noise follows from x_t and the picture.
    signal, sigma = model.path.coefficients(t, x_t)
    noise = (x_t - signal * clean.repeat_interleave(2, 0)) / sigma
    torch.testing.assert_close(model.path.add_noise(clean.repeat_interleave(2, 0), noise, t), x_t)

    def at(texts: list[str]) -> torch.Tensor:
        return model.predict(Point(x_t, t, model.encode([p for p in texts for _ in range(2)]), ("",) * 4))

    asked = [f"{w} {p}" for w, p in zip(["ring disc box", "dots lily coin"], prompts, strict=True)]
    with torch.no_grad():
        untouched = at(prompts)
        with swapped(model.network, attacked.delta):
            predicted, own = at(asked), at(prompts)
    wanted = noise if cls is PromptSearch else untouched
    torch.testing.assert_close(goal, wanted, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(goal, own, rtol=1e-3, atol=1e-3)  # the victim's own prediction would be no goal
    by_hand = torch.stack([F.mse_loss(predicted[i : i + 2], wanted[i : i + 2]) for i in (0, 2)])
    torch.testing.assert_close(valued(attack, attacked, asked), by_hand, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cls", [PromptSearch, P4D])
def test_what_the_search_finds_can_be_typed_and_does_better_than_nothing_where_it_did_not_look(cls, tmp_path, monkeypatch):
    monkeypatch.setattr(cls, "AT", (0, 2))
    attacked, attack = victim(tmp_path), cls(**SMALL)
    _, *found = attack(attacked)
    assert [r.strength for r in found] == [2, 6]
    plain, seeds = attacked.asked()
    for reading in found:
        assert torch.equal(reading.cond.states, attacked.model.encode(list(reading.cond.keys)).states)
        assert reading.noise_seeds == tuple(seeds)
        assert reading.weights.keys() == attacked.delta.keys()
        prefixes = [k.removesuffix(p).split() for k, p in zip(reading.cond.keys, plain, strict=True)]
        assert {len(words) for words in prefixes} <= {0, attack.tokens}
        held = [valued(attack, attacked, prompts, VALIDATION_POINTS, "held out") for prompts in (list(reading.cond.keys), plain)]
        assert torch.equal(held[0] < held[1] - 1e-7, torch.tensor([bool(words) for words in prefixes]))


@pytest.mark.parametrize(("other_names", "synonyms"), [(True, ()), (False, ()), (True, ("glow",))])
def test_no_prefix_holds_a_name_that_was_to_be_forgotten(tmp_path, monkeypatch, other_names, synonyms):
    """Nor any other name, where these are barred or the run was told of them; else all that the tokenizer has are among the words."""
    among = []
    real = Words.candidates
    monkeypatch.setattr(Words, "candidates", lambda self, names: among.append(real(self, names)) or among[-1])
    attacked = victim(tmp_path, pictures=4)
    attacked = replace(attacked, concept=tiny.concept("neon", synonyms=synonyms))
    *_, last = PromptSearch(tokens=5, iterations=3, tries=6, points=1, other_names=other_names)(attacked)
    words = {attacked.model.pipeline.tokenizer.decode([i]).strip() for i in among[0].tolist()}
    assert ("glow" in words) == (other_names and not synonyms)
    assert "neon" not in words
    assert "ring" in words
    for key, prompt in zip(last.cond.keys, attacked.asked()[0], strict=True):
        assert key.endswith(prompt)
        assert set(key.removesuffix(prompt).split()) <= words


def test_the_two_names_differ_in_their_aim_alone():
    assert P4D(aim="classifier-free", tokens=2).aim == PromptSearch().aim
    assert [getattr(P4D(), n) for n in ("tokens", "iterations", "tries", "points")] == [
        getattr(PromptSearch(), n) for n in ("tokens", "iterations", "tries", "points")
    ]


def test_the_untouched_model_matches_itself_without_a_prefix(tmp_path):
    """At 0 the victim draws as the untouched model, so that no words do better, and the concept is there: the attack works."""
    attacked, attack = victim(tmp_path, delta={}), P4D(**SMALL)
    assert valued(attack, attacked, attacked.asked()[0]).max() < 1e-10
    first, *_, last = attack(attacked)
    assert last.cond.keys == first.cond.keys == tuple(attacked.asked()[0])
    assert torch.equal(last.cond.states, first.cond.states)


def test_words_that_fit_the_searched_places_alone_are_left_out(tmp_path, monkeypatch):
    """Were any prefix used, the untouched model itself would lose the concept to the words before it."""
    attacked, attack = victim(tmp_path), PromptSearch(**SMALL)
    monkeypatch.setattr(PrefixLoss, "evaluate_all", lambda self, model, cond: torch.zeros(len(cond)))
    *_, last = attack(attacked)
    assert last.cond.keys == tuple(attacked.asked()[0])


def test_a_prefix_that_has_no_room_is_refused_before_any_work(tmp_path):
    with raises_error("prompt-too-long", hint="fewer tokens"):
        next(PromptSearch(tokens=9)(victim(tmp_path, pictures=11)))


def test_pictures_that_are_in_the_store_cost_nothing(tmp_path):
    attacked = victim(tmp_path)
    before, _ = PromptSearch(**SMALL).cost(attacked)
    list(PromptSearch(**SMALL)(attacked))
    after, _ = PromptSearch(**SMALL).cost(attacked)
    sampler = tiny.model().default_sampler
    assert before - after == attacked.pictures * sampler.steps * 2
