"""A few pictures of the concept, under its own prompts."""

import pytest
import torch
from attacks.victims import readings, victim

from expunge.attacks.few_shot import FewShot
from expunge.methods.base import Training
from expunge.models.delta import swapped
from expunge.models.stable_diffusion import StableDiffusion
from expunge.training.banks import forget_bank


def test_readings_are_taken_at_the_known_steps_and_at_the_last():
    assert FewShot().strengths == (0, 10, 25, 50, 100)
    assert FewShot(steps=30).strengths == (0, 10, 25, 30)


@pytest.mark.parametrize("pictures", [1, 5, 20])
def test_so_many_pictures_are_made_each_of_another_prompt_of_the_concept(pictures, tmp_path, monkeypatch):
    made, trained = [], []
    sampled, predicted = StableDiffusion.sample_latents, StableDiffusion.predict

    def sample(self, cond, seeds, sampler):
        made.extend(zip(cond.keys, seeds, strict=True))
        return sampled(self, cond, seeds, sampler)

    def predict(self, point, weights=None):
        trained.extend(point.cond.keys)
        return predicted(self, point, weights)

    monkeypatch.setattr(StableDiffusion, "sample_latents", sample)
    monkeypatch.setattr(StableDiffusion, "predict", predict)
    readings(FewShot(pictures=pictures, steps=10, batch_size=8), victim(tmp_path))
    assert len(made) == len({p for p, _ in made}) == len({s for _, s in made}) == pictures
    assert all("neon" in p.split() for p, _ in made)
    assert len(trained) == 80
    assert set(trained) <= {p for p, _ in made}


def test_every_picture_has_as_many_points(tmp_path):
    bank = FewShot(pictures=4)._make_bank(victim(tmp_path))
    assert len({bank.points.cond.keys.count(p) for p in set(bank.points.cond.keys)}) == 1


def test_its_pictures_are_not_those_of_the_unlearning(tmp_path):
    attacked = victim(tmp_path)
    unlearned = forget_bank(attacked.session, attacked.concept, Training(pictures=2, points=2), 0)
    shown = FewShot(pictures=2)._make_bank(attacked)
    assert unlearned.points.cond.keys == shown.points.cond.keys[:2]
    assert not torch.equal(unlearned.points.x_t, shown.points.x_t[:2])
    assert len(list((tmp_path / "store").rglob("*.safetensors"))) == 2


def test_it_learns_what_it_is_shown(tmp_path):
    attacked = victim(tmp_path)
    attack = FewShot(pictures=1, steps=24, lr=3e-3, batch_size=4)
    bank = attack._make_bank(attacked)
    at = list(range(0, 2048, 100))
    losses = []
    for weights in readings(attack, attacked):
        with torch.no_grad(), swapped(attacked.model.network, weights):
            losses.append((attacked.model.predict(bank.points[at]) - bank.points.goal[at]).square().mean().item())
    assert losses[-1] < 0.95 * losses[0]
