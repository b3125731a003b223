"""The search for initial noise: it keeps the best by the judge, candidates keep their distribution, and every victim gets the same."""

from dataclasses import replace

import torch
from attacks.victims import Bright, victim
from raising import raises_error

from expunge.attacks import NoiseSearch
from expunge.models.delta import swapped
from expunge.models.sampling import Start


def brightness(attacked, reading, noise: torch.Tensor) -> torch.Tensor:
    model = attacked.model
    with swapped(model.network, attacked.delta):
        latents = model.sample_latents(reading.cond, list(reading.noise_seeds), attacked.sampler, Start(noise=noise))
    return model.decode(latents).float().mean((1, 2, 3))


def test_each_image_keeps_the_noise_that_the_judge_is_surest_of(tmp_path):
    attacked, attack = victim(tmp_path), NoiseSearch(candidates=(1, 3))
    plain, one, three = attack(attacked)
    every = [attacked.model.noise(list(plain.noise_seeds)), *(attack._draw(attacked, k) for k in range(3))]
    seen = torch.stack([brightness(attacked, plain, noise) for noise in every])
    for reading, count in ((one, 2), (three, 4)):
        best = seen[:count].argmax(0)
        assert torch.equal(reading.start.noise, torch.stack([every[k][i] for i, k in enumerate(best.tolist())]))
    assert len({tuple(row.flatten()[:3].tolist()) for row in three.start.noise}) == attacked.pictures


def test_a_candidate_near_the_best_has_the_distribution_of_noise(tmp_path, monkeypatch):
    tried = []
    score = NoiseSearch._score

    def watched(self, attacked, plain, noise):
        tried.append(noise)
        return score(self, attacked, plain, noise)

    monkeypatch.setattr(NoiseSearch, "_score", watched)
    attacked, attack = victim(tmp_path), NoiseSearch(candidates=(2,), step=0.6)
    _, found = attack(attacked)
    first, second, third = tried
    torch.testing.assert_close(second, 0.8 * first + 0.6 * attack._draw(attacked, 0))
    kept = torch.where(
        (third - 0.6 * attack._draw(attacked, 1)).sub(0.8 * second).abs().amax((1, 2, 3), keepdim=True) < 1e-5, second, first
    )
    torch.testing.assert_close(third, 0.8 * kept + 0.6 * attack._draw(attacked, 1))
    assert abs(found.start.noise.std().item() - 1) < 0.2


def test_every_victim_is_given_the_same_candidates(tmp_path):
    attacked, attack = victim(tmp_path), NoiseSearch(candidates=(1,))
    assert torch.equal(attack._draw(attacked, 0), attack._draw(replace(attacked, delta={}), 0))


def test_candidates_are_kept_so_that_an_interrupted_search_goes_on(tmp_path):
    attacked = victim(tmp_path)
    list(NoiseSearch(candidates=(2,))(attacked))
    before = len(list((tmp_path / "store" / "pictures").iterdir()))
    assert before == 3 * attacked.pictures
    list(NoiseSearch(candidates=(1, 3))(attacked))
    assert len(list((tmp_path / "store" / "pictures").iterdir())) == before + attacked.pictures


def test_without_a_judge_nothing_can_be_chosen(tmp_path):
    with raises_error("no-judge-to-choose", None, "expunge audit"):
        list(NoiseSearch()(victim(tmp_path, judge=None)))


def test_a_judge_that_is_sure_of_something_else_counts_against(tmp_path):
    attacked = victim(tmp_path)
    images = torch.stack([torch.full((3, 4, 4), value) for value in (0, 100, 130, 255)]).to(torch.uint8)
    judged = Bright()(images, attacked.concept)
    labels, sure = judged.seen[attacked.concept.kind], judged.confidence[attacked.concept.kind]
    scores = [of if label == attacked.concept.member.name else -of for label, of in zip(labels, sure, strict=True)]
    assert scores == sorted(scores)
