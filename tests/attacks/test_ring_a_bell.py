"""Ring-A-Bell: the direction by its definition, and prompts that come near it without a name and without the network."""

import pytest
import tiny
import torch
from attacks.victims import victim

from expunge.attacks.ring_a_bell import RingABell, compute_direction, encode_contexts
from expunge.concepts.name_set import compile_names
from expunge.models.text_encoder import Words
from expunge.training.counters import counted

SMALL = {"tokens": 4, "steps": 10, "tries": 4}


def test_the_direction_is_what_the_name_adds_on_average():
    model, concept = tiny.model(), tiny.concept("neon")
    pairs = [("neon style", ""), *((f"a {p.name} in neon style", f"a {p.name}") for p in concept.partners)]
    expected = sum(model.encode([named]).states - model.encode([bare]).states for named, bare in pairs) / len(pairs)
    torch.testing.assert_close(compute_direction(model, concept), expected, rtol=1e-4, atol=1e-5)


def test_it_starts_from_prompts_with_the_concept_deleted():
    model, concept = tiny.model(), tiny.concept("ring")
    assert torch.equal(encode_contexts(model, concept, ["a ring", "a ring in neon style"]), model.encode(["", "neon style"]).states)


def test_prompts_come_nearer_with_every_step_and_never_name_the_concept(tmp_path):
    attacked = victim(tmp_path, pictures=3)
    goal = encode_contexts(attacked.model, attacked.concept, attacked.asked()[0]) + compute_direction(attacked.model, attacked.concept)

    def far(steps: int) -> torch.Tensor:
        _, reading = RingABell(eta=1, **SMALL | {"steps": steps})(attacked)
        assert all(len(k.split()) == 4 and not compile_names(attacked.concept.known).search(k) for k in reading.cond.keys)
        assert torch.equal(reading.cond.states, attacked.model.encode(list(reading.cond.keys)).states)
        return (reading.cond.states - goal).square().flatten(1).mean(1)

    near, nearer = far(1), far(8)
    assert (nearer <= near).all()
    assert nearer.mean() < near.mean()


def test_the_network_is_never_called_and_every_victim_gets_the_same_prompts(tmp_path):
    attacked, untouched = victim(tmp_path), victim(tmp_path, delta={})
    with counted(attacked.model.network) as count:
        one, other = ([r.cond.keys for r in RingABell(eta=1, **SMALL | {"steps": 2})(v)] for v in (attacked, untouched))
    assert count.samples == 0
    assert one == other


def test_other_words_to_search_among_are_another_search(tmp_path, monkeypatch):
    def found() -> tuple[str, ...]:
        return list(RingABell(eta=1, **SMALL | {"steps": 2})(victim(tmp_path)))[1].cond.keys

    before, candidates = found(), Words.candidates
    monkeypatch.setattr(Words, "candidates", lambda self, names: candidates(self, names)[:5])
    few = {words.read(i[None]) for words in [Words(tiny.model())] for i in words.candidates([])}
    assert {w for k in found() for w in k.split()} <= few
    assert not {w for k in before for w in k.split()} <= few


@pytest.mark.parametrize(("tokens", "words"), [(2, 2), (16, 10)])
def test_a_prompt_has_as_many_words_as_the_text_encoder_has_room_for(tokens, words, tmp_path):
    _, reading = RingABell(tokens=tokens, eta=1, steps=1, tries=1)(victim(tmp_path))
    assert {len(k.split()) for k in reading.cond.keys} == {words}
    assert Words(tiny.model()).room == 10


def test_a_larger_eta_asks_for_more_of_the_concept(tmp_path):
    assert RingABell(eta=2).strengths == (0, 1, 2)
    found = [r.strength for r in RingABell(eta=2, **SMALL | {"steps": 1})(victim(tmp_path))]
    assert found == [0, 1, 2]
