"""What every registered attack promises, before its author writes a test."""

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest
import tiny
import torch
from attacks.victims import delta, victim
from torch import nn

from expunge import config
from expunge.attacks import ATTACKS
from expunge.attacks.base import Attack, Attacked, Victim
from expunge.attacks.few_shot import FewShot
from expunge.attacks.relearn import Relearn
from expunge.cli.settings_help import settings_of
from expunge.training.counters import Count, counted

SMALL: dict[str, dict] = {
    "relearn": {"steps": 2, "batch_size": 1, "pictures": 3},
    "few-shot": {"steps": 2, "batch_size": 1, "pictures": 2},
    "inversion": {"steps": 3, "batch_size": 1, "shown": 2},
    "prompt-search": {"iterations": 6, "tries": 2, "points": 1},
    "p4d": {"iterations": 6, "tries": 2, "points": 1},
    "ring-a-bell": {"eta": 2, "steps": 3, "tries": 2},
    "img2img": {"shares": [0.5]},
    "inpainting": {"shares": [0.5]},
    "ddim-inversion": {"calls": [1]},
    "noise-search": {"candidates": [1]},
    "noise-optimisation": {"steps": [1], "sampler_steps": 2, "points": 1},
}
"""Settings under which an attack is over at once; those that are not named here are quick as they are."""


def made(name: str) -> Attack:
    return config.build(ATTACKS[name], SMALL.get(name, {}), name)


@contextmanager
def returned(net: nn.Module) -> Iterator[Count]:
    """Counts the samples through which a gradient goes back."""
    count = Count()

    def see(module, arguments, output):
        def back(gradient: torch.Tensor) -> None:
            count.samples += len(gradient)

        predicted = output[0]
        if predicted.requires_grad:
            predicted.register_hook(back)

    hook = net.register_forward_hook(see)
    try:
        yield count
    finally:
        hook.remove()


@pytest.fixture(scope="module", autouse=True)
def often() -> Iterator[None]:
    """The attacks that train are read before and after each of their two steps."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Relearn, FewShot):
            patch.setattr(kind, "AT", (0, 1, 2))
        yield


def guarded(attacked: Victim) -> Callable[[], None]:
    """What checks that network and delta are as they were at this call."""
    net, autocast = attacked.model.network, attacked.model._autocast
    weights, training = {n: p.detach().clone() for n, p in net.named_parameters()}, net.training
    given, kept = delta(attacked.model), dict(attacked.delta)

    def check() -> None:
        assert all(torch.equal(p, weights[n]) and p.requires_grad and p.grad is None for n, p in net.named_parameters())
        assert kept.keys() == given.keys()
        assert all(torch.equal(kept[n], v) for n, v in given.items())
        assert net.training is training
        assert not net._forward_pre_hooks
        assert attacked.model._autocast is autocast

    return check


@dataclass(frozen=True)
class Ended:
    """An attack that was made to its end."""

    name: str
    attack: Attack
    attacked: Victim
    readings: list[Attacked]
    announced: tuple[int, int]
    """The samples of forward and of backward passes, said before."""
    passes: tuple[int, int]
    unchanged: Callable[[], None]


@pytest.fixture(scope="module", params=ATTACKS)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    attacked, attack = victim(tmp_path_factory.mktemp("ended")), made(request.param)
    unchanged, announced = guarded(attacked), attack.cost(attacked)
    with counted(attacked.model.network) as passed, returned(attacked.model.network) as went_back:
        readings = list(attack(attacked))
    return Ended(request.param, attack, attacked, readings, announced, (passed.samples, went_back.samples), unchanged)


def test_the_first_reading_is_the_victim_itself_under_plain_prompts(ended: Ended):
    attacked, first = ended.attacked, ended.readings[0]
    prompts, seeds = attacked.asked()
    assert first.strength == 0
    assert first.weights.keys() == attacked.delta.keys()
    assert all(torch.equal(first.weights[n], v) for n, v in attacked.delta.items())
    assert first.cond.keys == tuple(prompts)
    assert torch.equal(first.cond.states, attacked.model.encode(prompts).states)
    assert first.noise_seeds == tuple(seeds)


def test_readings_rise_as_announced_and_hold_all_that_differs(ended: Ended):
    attacked, attack = ended.attacked, ended.attack
    parameters = dict(attacked.model.network.named_parameters())
    found = []
    for reading in ended.readings:
        found.append(reading.strength)
        assert attacked.delta.keys() <= reading.weights.keys() <= parameters.keys()
        assert all(w.shape == parameters[n].shape for n, w in reading.weights.items())
        dtypes = {n: {torch.float32, attacked.delta[n].dtype if n in attacked.delta else torch.float32} for n in reading.weights}
        assert all(w.dtype in dtypes[n] for n, w in reading.weights.items())
        assert len(reading.cond) == len(reading.noise_seeds)
        parts = (
            [part for part in (reading.start.noise, reading.start.clean, reading.start.shown) if part is not None] if reading.start else []
        )
        assert all(len(part) == len(reading.cond) for part in parts)
    assert found == list(attack.strengths)
    assert found[0] == 0
    assert all(a < b for a, b in pairwise(found))


def test_the_network_and_the_delta_are_as_they_were_when_it_ends(ended: Ended):
    ended.unchanged()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("taken", [1, 2])
def test_the_network_and_the_delta_are_as_they_were_when_it_is_closed(name, taken, tmp_path):
    attacked = victim(tmp_path)
    unchanged = guarded(attacked)
    running = iter(made(name)(attacked))
    for _, reading in zip(range(taken), running, strict=False):
        assert reading.weights
    running.close()
    unchanged()


def test_equal_seeds_give_equal_readings(ended: Ended, tmp_path):
    """In stores of their own: nothing that the first has kept may be what makes the second equal."""
    for a, b in zip(ended.readings, made(ended.name)(victim(tmp_path)), strict=True):
        assert (a.strength, a.cond.keys, a.noise_seeds, a.weights.keys()) == (b.strength, b.cond.keys, b.noise_seeds, b.weights.keys())
        assert torch.equal(a.cond.states, b.cond.states)
        assert all(torch.equal(a.weights[n], b.weights[n]) for n in a.weights)
        begun, again = (r.start.tensors if r.start else {} for r in (a, b))
        assert begun.keys() == again.keys()
        assert all(torch.equal(begun[n], again[n]) for n in begun)


def test_it_costs_what_it_says(ended: Ended):
    assert ended.passes == ended.announced


@pytest.mark.parametrize("name", ATTACKS)
def test_the_untouched_model_can_be_attacked_as_a_control(name, tmp_path):
    *_, last = made(name)(victim(tmp_path, delta={}))
    assert last.strength == made(name).strengths[-1]


@pytest.mark.parametrize("name", ATTACKS)
def test_its_configuration_round_trips_through_toml(name):
    attack = ATTACKS[name]()
    table = tomllib.loads(config.to_toml(config.settings(attack)))
    assert config.build(ATTACKS[name], table, name) == attack


@pytest.mark.parametrize("name", ATTACKS)
def test_its_documentation_names_the_source_and_every_field(name):
    assert re.search(r"arXiv \d{4}\.\d{5}|OpenReview \w{10}", inspect.getdoc(ATTACKS[name]))
    assert [s.name for s in settings_of(ATTACKS[name]) if not s.about] == []
    assert ATTACKS[name].threat
    assert ATTACKS[name].unit
    assert dataclasses.is_dataclass(ATTACKS[name])


def test_a_victim_is_known_by_model_and_changes():
    model = tiny.model()
    untouched = Victim(tiny.session(model), tiny.concept())
    changed = dataclasses.replace(untouched, delta=delta(model))
    assert untouched.fingerprint == model.fingerprint
    assert len({untouched.fingerprint, changed.fingerprint, dataclasses.replace(untouched, delta=delta(model, 1)).fingerprint}) == 3
