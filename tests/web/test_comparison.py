"""Images of both models from the same noise, at any strength of the erasure."""

import pytest
import tiny
import torch

from expunge.models.sampling import Sampler
from expunge.runs.unlearn import unlearn
from expunge.web.comparison import Comparison, Wish, scaled


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Comparison:
    session = tiny.session()
    run = unlearn(
        session.model, tiny.concept(), "mim-mu", training=tiny.TRAINING, out=tmp_path_factory.mktemp("run"), progress=session.progress
    )
    return Comparison.open(run, session)


def wish(strength: float, **given) -> Wish:
    return Wish(**({"prompt": "neon style", "seed": 3, "images": 2, "strength": strength, "sampler": Sampler(2, 2.0)} | given))


def test_strength_is_a_factor_of_the_change(comparison: Comparison):
    network, delta = comparison.session.model.network, comparison.delta
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert all(torch.equal(scaled(network, delta, 1)[name], value) for name, value in delta.items())
    for strength in (0.0, 0.25, 1.5):
        for name, value in scaled(network, delta, strength).items():
            torch.testing.assert_close(value - before[name], strength * (delta[name] - before[name]), atol=1e-6, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_both_models_start_from_the_same_noise(comparison: Comparison):
    before = {name: value.clone() for name, value in comparison.session.model.network.state_dict().items()}
    none, full = list(comparison.draw(wish(0))), list(comparison.draw(wish(1)))
    assert [pair.seed for pair in none] == [3, 4]
    assert all(pair.base.tobytes() == pair.unlearned.tobytes() for pair in none)
    assert [pair.base.tobytes() for pair in full] == [pair.base.tobytes() for pair in none]
    assert all(pair.base.tobytes() != pair.unlearned.tobytes() for pair in full)
    assert all(torch.equal(value, before[name]) for name, value in comparison.session.model.network.state_dict().items())


def test_another_strength_samples_no_base_images_again(comparison: Comparison, monkeypatch):
    model, asked = comparison.session.model, []
    sample = model.sample
    monkeypatch.setattr(model, "sample", lambda prompts, *rest: asked.append(len(prompts)) or sample(prompts, *rest))
    list(comparison.draw(wish(1, prompt="a ring")))
    list(comparison.draw(wish(0.5, prompt="a ring")))
    list(comparison.draw(wish(0.5, prompt="a ring", images=3)))
    assert asked == [2, 2, 2, 1, 3]
