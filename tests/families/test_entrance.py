"""Where words enter: a scope of every family, which a closed form edits and whitened steps know."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import tiny
import torch
from torch import Tensor

from expunge.methods.base import EditPrompts
from expunge.methods.uce import UCE
from expunge.models.base import DiffusionModel
from expunge.models.inputs import Group, conditions, groups, inputs
from expunge.models.scopes import SCOPES
from expunge.training.preconditioner import readers, second_moments
from families import FAMILIES, shared

TARGET, GOAL, KEPT = "neon style", "", "a ring"


def read(model: DiffusionModel, prompt: str, seed: int = 0, share: float = 0.5) -> dict[str, Tensor]:
    """What each map of the entrance reads."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in model.scope(SCOPES["entrance"])))
    return inputs(model, layers, model.encode([prompt]).trimmed, model.noise([seed]), model.path.times(torch.tensor([share])))


def predict(model: DiffusionModel, prompt: str) -> Tensor:
    with torch.no_grad():
        return model.run(model.noise([1]), model.path.times(torch.tensor([0.6])), model.encode([prompt]).trimmed)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_entrance_reads_the_prompt_alone(family: str):
    """Or a closed form could not be exact there: neither the image nor the time changes what is read, another word does."""
    model = shared(family)
    plain = read(model, "neon style")
    for other in (read(model, "neon style", seed=1), read(model, "neon style", share=0.8)):
        assert all(torch.equal(plain[name], value) for name, value in other.items())
    assert all(not torch.equal(plain[name], value) for name, value in read(model, "dots style").items())


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_what_a_layer_that_reads_them_is_given(family: str):
    """Layers of which a family says so are not looked at."""
    model = shared(family)
    names = model.scope(SCOPES["entrance"]).keys()
    found = groups(model, names)
    assert sorted(name for group in found for name in group.weights(names)) == sorted(names)
    plain, states = read(model, "neon style"), model.encode(["neon style"]).trimmed.states
    assert all(torch.equal(plain[layer], states) for group in found if group.reads_states for layer in group.layers)


def distance_left(model: DiffusionModel, keeps: Callable[[Group, EditPrompts], bool]) -> float:
    """The share of the distance between two prompts' predictions that is left by an edit of the kept groups of layers.

    One prompt alone, hardly a ridge and nothing retained: the edit is exact where it can be.
    """
    before, goal = predict(model, TARGET), predict(model, GOAL)
    weights = model.scope(SCOPES["entrance"])
    for group in groups(model, weights):
        prompts = EditPrompts(*(conditions(model, group, [text]) for text in (TARGET, GOAL, KEPT)))
        if keeps(group, prompts):
            edit = UCE(preserve_weight=0.0, ridge=1e-9)({name: weights[name] for name in group.weights(weights)}, prompts)
            for name, value in edit.items():
                weights[name].data.copy_(value)
    return ((predict(model, TARGET) - goal).norm() / (before - goal).norm()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_entrance_is_all_that_the_network_reads_of_a_prompt(family: str):
    """Given what another prompt gives there, it predicts what it predicts under that prompt."""
    model = shared(family)
    one, other = predict(model, "neon style"), predict(model, "dots style")
    with ExitStack() as hooks:
        for name, value in read(model, "dots style").items():
            layer = model.network.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(lambda layer, arguments, value=value: (value,)).remove)
        swapped = predict(model, "neon style")
    assert (one - other).norm() > 1e-4
    torch.testing.assert_close(swapped, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux-1-dev", "pixart-sigma", "sana"])
def test_a_closed_form_of_every_entrance_leaves_nothing_of_the_word(family: str):
    """Where the states have as many directions as a prompt has tokens, or no edit is exact."""
    assert distance_left(FAMILIES[family].model(), lambda group, prompts: True) < 1e-3


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux-1-dev"])
def test_words_without_the_pooled_vector_leave_a_part(family: str):
    assert distance_left(FAMILIES[family].model(), lambda group, prompts: prompts.target.states.shape[1] > 1) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_each_map_of_words_has_moments_of_its_own(family: str, monkeypatch: pytest.MonkeyPatch):
    """Keys and values in a later block do not read the prompt directly; those of one block read the same."""
    monkeypatch.setattr("expunge.training.preconditioner.CALLS", 4)
    model = shared(family)
    names = readers(model, SCOPES["xattn-kv"])
    found = groups(model, names)
    moments = second_moments(model, tiny.concept(), found)
    assert {name for group in found for name in group.weights(names)} == set(names)
    for group, second in zip(found, moments, strict=True):
        assert all(second.shape == (model.network.get_parameter(name).shape[1],) * 2 for name in group.weights(names))
        assert torch.linalg.eigvalsh(second.double()).max() > 1e-6
        torch.testing.assert_close(second, second.T)
