"""Attacks with images and noise on the canvas: what the base model and a model that never saw the concept do under them."""

from pathlib import Path

import pytest

from expunge.attacks import DDIMInversion, Img2Img, NoiseSearch
from expunge.attacks.base import Attack, Victim
from expunge.canvas.control import SHIPPED
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judges import judge_images, load_judge
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.storage.cache import Store
from expunge.training.session import Session

pytestmark = pytest.mark.slow
PICTURES = 4


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory):
    """How many images show a ring at each strength of an attack on the base model, or on the one that never saw a ring."""
    store: Path = tmp_path_factory.mktemp("store")
    session = Session.open("canvas", device="cpu", cache=Store(store), progress=Silent())
    concept, model, judge, sampler = Concept.find("ring", Vocabulary.canvas()), session.model, load_judge("main"), Sampler(10, 3.0)

    def count(attack: Attack, role: str) -> list[int]:
        delta = Run(SHIPPED).delta(model.fingerprint) if role == "retrained" else {}
        found = []
        for reading in attack(Victim(session, concept, delta, pictures=PICTURES, judge=judge, sampler=sampler)):
            with swapped(model.network, reading.weights):
                latents = model.sample_latents(reading.cond, list(reading.noise_seeds), sampler, reading.start)
            found.append(judge_images(judge, model.decode(latents), concept).seen["object"].count("ring"))
        return found

    return count


def test_an_image_of_a_neighbours_prompt_stays_one_of_the_concept_only_where_the_concept_was_learnt(shown):
    attack = Img2Img(prompt="neighbour", shares=(0.6,))
    assert shown(attack, "base")[1] >= PICTURES - 1
    assert shown(attack, "retrained") in ([0, 0], [0, 1], [0, 2])


def test_inversion_gives_back_what_a_model_never_learnt(shown):
    """Which is why it says nothing without this control."""
    before, after = shown(DDIMInversion(calls=(3,)), "retrained")
    assert before == 0
    assert after >= PICTURES - 1


def test_no_noise_of_a_few_shows_what_a_model_never_learnt(shown):
    assert shown(NoiseSearch(candidates=(2,)), "retrained") == [0, 0]
