"""Many concepts in one run: budgets of each concept, a closed form by bare prompts, names found in a time that does not grow."""

import time

import pytest
import tiny
import torch

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject
from expunge.concepts.name_set import NameSet, compile_names
from expunge.concepts.vocabulary import Vocabulary
from expunge.methods._closed_form import eraser
from expunge.methods.base import Training
from expunge.methods.presets import preset
from expunge.methods.uce import UCE
from expunge.models.scopes import SCOPES
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.banks import surviving
from expunge.training.edit_prompts import edit_prompts

NAMES = ("neon", "ring", "dots")


def several(together: str = "joint") -> Several:
    return Several.of([tiny.concept(n) for n in NAMES], together)


def test_a_budget_of_each_concept_is_multiplied_for_a_joint_run():
    made = Training(steps=10, points=20, pictures=3, retain_pictures=4, batch_size=7, per_concept=True).of_run(3)
    assert made == Training(steps=30, points=60, pictures=9, retain_pictures=12, batch_size=7)
    assert Training(steps=10).of_run(3) == Training(steps=10)


def test_the_run_is_the_one_with_the_larger_numbers():
    """The same id, so that it is not made twice."""
    model, each = tiny.model(), {"steps": 4, "points": 8, "pictures": 2, "retain_pictures": 2}
    asked = make_plan(model, several(), "mim-mu", training={**each, "per_concept": True})
    assert asked.training.steps == 12
    assert asked.id == make_plan(model, several(), "mim-mu", training={name: 3 * value for name, value in each.items()}).id


@pytest.mark.parametrize("concept", [tiny.concept("neon"), several("sequential")])
def test_a_stage_of_one_concept_has_the_budget_of_one(concept: Subject):
    plan = make_plan(tiny.model(), concept, "mim-mu", training={"steps": 4, "per_concept": True})
    assert [stage.training.steps for stage in plan.stages or (plan,)] == [4] * len(concept.parts)


def test_the_preset_scales_with_the_concepts():
    plan = make_plan(tiny.model(), several(), **preset("many-concepts"))
    first, second = plan.stages
    assert isinstance(first.method, UCE)
    assert (second.training.steps, second.training.points, second.training.pictures) == (72, 615, 39)


def test_bare_prompts_are_those_that_a_closed_form_solves_for(tmp_path):
    """Against the definition, and nothing else is encoded as a target."""
    model, subject = tiny.model(), several()
    weights = model.scope(SCOPES["entrance"])
    [(_, given)] = edit_prompts(subject, model, weights, "bare")
    assert given.target.keys == tuple(subject.bare) == ("neon style", "a ring", "dots style")
    [(_, every)] = edit_prompts(subject, model, weights)
    assert len(every.target) > 3
    run = unlearn(model, subject, UCE(prompts="bare"), out=tmp_path / "run", cache=Store(tmp_path / "store"))
    e, g, p = (c.states.flatten(0, 1) for c in (given.target, given.goal.expand(3), given.retain))
    change = eraser(e, g, p, 1.0, 0.1, 0.5).float()
    for name, weight in run.delta(model.fingerprint).items():
        torch.testing.assert_close(weight, dict(model.network.named_parameters())[name] @ change)


TEXTS = (
    "a ring",
    "a spring",
    "rings of a RING.",
    "Monet's garden",
    "monet",
    "",
    "L'Ange Noir",
    "a l'ange noir, old",
    "ring-shaped",
    "ring_",
    "一只狗，早期梵高风格",
    "一只狗，ring风格",
    "ヴァンゴッホ",
)


@pytest.mark.parametrize(
    "names", [["ring"], ["Monet", "van gogh"], ["L'Ange Noir", "old"], ["ring."], [], ["梵高", "ゴッホ"], ["ッホ", "狗，ring"]]
)
def test_names_are_found_as_the_pattern_finds_them(names: list[str]):
    pattern, found = compile_names(names) if names else None, NameSet(names)
    assert [found.search(t) for t in TEXTS] == [bool(pattern and pattern.search(t)) for t in TEXTS]


def test_many_names_take_seconds():
    vocabulary, began = Vocabulary.general(), time.process_time()
    letters = "abcdefghijklmnopqrst"
    group = Several.of([Concept.find(f"Person{a}{b} Smith", vocabulary, kind="identity") for a in letters for b in letters])
    assert len(group.bare) == 400
    kept = surviving(group)
    assert kept
    assert not [p for p in kept if "Smith" in p]
    assert time.process_time() - began < 20  # 1 s on an idle core; with a pattern for each concept, a minute
