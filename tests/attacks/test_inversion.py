"""Concept inversion: where the new word begins, what one step does to it, and what pictures are asked for by it."""

import pytest
import tiny
import torch
from attacks.victims import victim
from raising import raises_error
from torch.nn import functional as F

from expunge.attacks.base import Victim
from expunge.attacks.inversion import POINTS, Inversion, compute_start
from expunge.concepts.name_set import compile_names
from expunge.diffusion.types import Cond, Point
from expunge.models.delta import swapped
from expunge.models.text_encoder import BLANK, Words
from expunge.storage.hashing import seed_of
from expunge.training.batches import picks

SMALL = {"shown": 2, "batch_size": 2}


def test_the_new_word_begins_as_the_mean_of_the_other_members_and_knows_nothing_of_the_concepts_own_words():
    words, concept = Words(tiny.model()), tiny.concept("neon")
    others = ["outline", "stripes", "dots", "mosaic", "sketch", "swirl", "watercolour", "blueprint", "silhouette"]
    ids = torch.tensor([words.tokenizer(n, add_special_tokens=False).input_ids[0] for n in others])
    torch.testing.assert_close(compute_start(words, concept), words.embedding.weight[ids].mean(0, keepdim=True).detach())
    before = compute_start(words, concept)
    own = [i for n in concept.known for i in words.tokenizer(n, add_special_tokens=False).input_ids]
    words.embedding.weight.data[own] += 1
    assert torch.equal(compute_start(words, concept), before)


def moved(attacked: Victim, attack: Inversion, weights) -> torch.Tensor:
    """The new vectors after one step of Adam, lr g / |g|, by hand: on the victim's prediction of the noise."""
    model, words, bank = attacked.model, Words(attacked.model), attack._make_bank(attacked)
    noisy = (bank.points.t >= (attack.noisy_from or 0) * model.path.horizon).nonzero().flatten()
    at = noisy[picks(seed_of("inversion", attacked.seed), 0, len(noisy), attack.batch_size)].tolist()
    prompts = [bank.prompts[i].prompt.replace("neon", BLANK) for i in at]
    vectors = compute_start(words, attacked.concept).repeat(attack.tokens, 1).requires_grad_()
    cond = Cond(words.encode(words.write(prompts, attack.tokens), vectors.expand(len(at), -1, -1)), tuple(prompts))
    with swapped(model.network, weights):
        predicted = model.predict(Point(bank.points.x_t[at], bank.points.t[at], cond, tuple(prompts)))
        [slope] = torch.autograd.grad(F.mse_loss(predicted, bank.points.goal[at]), [vectors])
    return (vectors - attack.lr * slope / (slope.abs() + 1e-8)).detach()


@pytest.mark.parametrize(("tokens", "noisy_from"), [(1, None), (3, None), (1, 0.5)])
def test_a_step_lowers_the_victims_own_denoising_loss_and_not_the_untouched_models(tokens, noisy_from, tmp_path):
    attacked, attack = victim(tmp_path), Inversion(tokens=tokens, noisy_from=noisy_from, steps=1, **SMALL)
    words = Words(attacked.model)
    _, reading = attack(attacked)
    asked = words.write([p.replace("neon", BLANK) for p in attacked.asked()[0]], tokens)
    found, of_untouched = (moved(attacked, attack, weights).expand(2, -1, -1) for weights in (attacked.delta, {}))
    with torch.no_grad():
        torch.testing.assert_close(reading.cond.states, words.encode(asked, found), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(reading.cond.states, words.encode(asked, of_untouched), rtol=1e-4, atol=1e-5)


def test_pictures_are_asked_for_by_the_new_word_which_is_another_at_each_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(Inversion, "AT", (0, 1))
    attacked = victim(tmp_path, pictures=3)
    _, *found = Inversion(steps=2, **SMALL)(attacked)
    assert [r.strength for r in found] == [1, 2]
    for reading in found:
        [word] = {k.split("<")[1].split(">")[0] for k in reading.cond.keys}
        named = [p.replace("neon", f"<{word}>") for p in attacked.asked()[0]]
        assert list(reading.cond.keys) == named
        assert not any(compile_names(attacked.concept.known).search(k) for k in reading.cond.keys)
        assert reading.noise_seeds == tuple(attacked.noise_seeds)
        assert reading.weights.keys() == attacked.delta.keys()
    assert found[0].cond.keys != found[1].cond.keys  # equal keys would mean equal rows


def test_learning_lowers_the_loss_on_what_is_shown(tmp_path):
    attacked, attack = victim(tmp_path, delta={}), Inversion(steps=25, lr=0.05, shown=2, batch_size=4)
    bank, words, model = attack._make_bank(attacked), Words(attacked.model), attacked.model
    rows = list(range(0, len(bank.points), 16))
    written = words.write([bank.prompts[i].prompt.replace("neon", BLANK) for i in rows])

    def loss(vectors: torch.Tensor) -> float:
        cond = Cond(words.encode(written, vectors.expand(len(rows), 1, -1)), ("",) * len(rows))
        point = Point(bank.points.x_t[rows], bank.points.t[rows], cond, ("",) * len(rows))
        return F.mse_loss(model.predict(point), bank.points.goal[rows]).item()

    kept, encode = [], Words.encode
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(Words, "encode", lambda self, rows, found=None: kept.append(found.detach()[:1].clone()) or encode(self, rows, found))
        with torch.enable_grad():
            list(attack(attacked))
        patch.undo()
        assert loss(kept[-1]) < loss(kept[0])


def test_the_text_encoder_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(Inversion, "AT", (0, 1))
    attacked = victim(tmp_path)
    encoder = attacked.model.pipeline.text_encoder
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    running = Inversion(steps=2, **SMALL)(attacked)
    next(running), next(running)
    running.close()
    assert all(torch.equal(p, before[n]) and p.requires_grad and p.grad is None for n, p in encoder.named_parameters())
    assert not Words(attacked.model).embedding._forward_hooks


def test_more_tokens_than_a_prompt_has_room_for_are_refused_before_any_work(tmp_path):
    with raises_error("prompt-too-long", hint="fewer tokens"):
        next(Inversion(tokens=7, **SMALL)(victim(tmp_path)))


def test_synonyms_that_were_erased_too_are_not_what_is_shown(tmp_path):
    """A picture under a synonym would have no place for the new word."""
    attacked = Victim(victim(tmp_path).session, tiny.concept("neon", synonyms=("glow",)), pictures=2)
    assert not any("glow" in p.prompt for p in Inversion(shown=12)._make_bank(attacked).prompts)


def test_a_restart_begins_elsewhere_on_other_images_and_is_judged_from_the_same_noise(tmp_path):
    attacked, words = victim(tmp_path), Words(tiny.model())
    attacks = [Inversion(steps=1, tokens=2, repeat=n, **SMALL) for n in (None, 0, 1)]
    starts = [attack._start(words, attacked.concept, attacked.seed_for(attack.repeat)) for attack in attacks]
    assert torch.equal(starts[0], compute_start(words, attacked.concept).repeat(2, 1))
    assert not torch.equal(starts[1], starts[2])
    assert not torch.equal(starts[1][0], starts[1][1])
    spread = (starts[1] - starts[0]).square().mean().sqrt() / starts[0].std()
    assert 0.1 < spread < 3  # as far as words lie from their mean, and no further
    clean = [attack._make_bank(attacked).points.x_t for attack in attacks]
    assert not torch.equal(clean[0], clean[1])
    _, reading = attacks[1](attacked)
    assert reading.noise_seeds == tuple(attacked.noise_seeds)


def test_as_many_points_are_noisy_enough_whatever_share_of_the_path_they_begin_at(tmp_path):
    """Times are spread evenly, so that a bank twice as large has as many in the noisier half."""
    attacked = victim(tmp_path)
    path = attacked.model.path
    for share in (None, 0.5, 0.9):
        t = Inversion(noisy_from=share, **SMALL)._make_bank(attacked).points.t
        assert (t >= (share or 0) * path.horizon).sum().item() == pytest.approx(POINTS, abs=4)
