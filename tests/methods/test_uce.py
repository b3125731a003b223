"""UCE is tested by its theorem: the edit is the minimum of J, and the untouched weights are not."""

from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from raising import raises_error
from torch import Tensor

from expunge.diffusion.types import Cond
from expunge.methods._closed_form import eraser
from expunge.methods.base import EditPrompts
from expunge.methods.uce import UCE

WIDTH, TOKENS = 8, 5
KEY, VALUE = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", "mid_block.attentions.0.attn2.to_v.weight"
METHOD = UCE(erase_weight=2.0, preserve_weight=0.7, ridge=0.3)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cond(states: Tensor, name: str) -> Cond:
    return Cond(states, tuple(f"{name} {i}" for i in range(len(states))))


@pytest.fixture
def prompts() -> EditPrompts:
    """Three targets whose goals differ from the third token on, as in a causal encoder.

    15 target and 20 retained states in 8 dimensions: every constraint is in conflict with others.
    """
    target = random(3, TOKENS, WIDTH, seed=1)
    goal = torch.cat([target[:, :2], random(3, TOKENS - 2, WIDTH, seed=2)], dim=1)
    return EditPrompts(cond(target, "target"), cond(goal, "goal"), cond(random(4, TOKENS, WIDTH, seed=3), "retain"))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {KEY: random(6, WIDTH, seed=4), VALUE: random(11, WIDTH, seed=5)}


def objective(edited: Tensor, weight: Tensor, prompts: EditPrompts) -> Tensor:
    e, g, p = (c.states.reshape(-1, WIDTH) for c in (prompts.target, prompts.goal, prompts.retain))
    erase = (e @ edited.T - g @ weight.T).square().sum()
    preserve = (p @ edited.T - p @ weight.T).square().sum()
    return METHOD.erase_weight * erase + METHOD.preserve_weight * preserve + METHOD.ridge * (edited - weight).square().sum()


def gradient(at: Tensor, weight: Tensor, prompts: EditPrompts) -> float:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(objective(at, weight, prompts), at)[0].abs().max().item()


@pytest.mark.parametrize("name", [KEY, VALUE])
def test_the_gradient_vanishes_at_the_edit_and_not_before_it(name: str, weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    edited = METHOD(weights, prompts)
    assert gradient(weights[name], weights[name], prompts) > 1.0
    assert gradient(edited[name], weights[name], prompts) < 1e-11


def test_any_step_away_from_the_edit_costs_what_the_quadratic_says(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    """At the minimum of a quadratic, J(W' + D) - J(W') = a ||E D^T||^2 + b ||P D^T||^2 + lam ||D||^2 > 0."""
    edited, e, p = METHOD(weights, prompts)[KEY], prompts.target.states.flatten(0, 1), prompts.retain.states.flatten(0, 1)
    for seed in range(10):
        step = random(6, WIDTH, seed=100 + seed)
        rise = objective(edited + step, weights[KEY], prompts) - objective(edited, weights[KEY], prompts)
        squares = [(rows @ step.T).square().sum() for rows in (e, p)]
        expected = METHOD.erase_weight * squares[0] + METHOD.preserve_weight * squares[1] + METHOD.ridge * step.square().sum()
        assert rise > 0
        torch.testing.assert_close(rise, expected)


def test_equals_the_textbook_loop_over_layers_and_tokens(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    """(lam W + a sum v* c^T + b sum W c c^T) (lam I + a sum c c^T + b sum c c^T)^-1, a token at a time, with v* = W g."""
    edited = METHOD(weights, prompts)
    assert edited.keys() == weights.keys()
    for name, weight in weights.items():
        left, right = METHOD.ridge * weight, METHOD.ridge * torch.eye(WIDTH, dtype=torch.float64)
        for i in range(3):
            for k in range(TOKENS):
                c, g = prompts.target.states[i, k], prompts.goal.states[i, k]
                left = left + METHOD.erase_weight * torch.outer(weight @ g, c)
                right = right + METHOD.erase_weight * torch.outer(c, c)
        for i in range(4):
            for k in range(TOKENS):
                c = prompts.retain.states[i, k]
                left = left + METHOD.preserve_weight * torch.outer(weight @ c, c)
                right = right + METHOD.preserve_weight * torch.outer(c, c)
        torch.testing.assert_close(edited[name], left @ torch.linalg.inv(right), rtol=1e-9, atol=1e-9)


def test_one_token_by_hand() -> None:
    """e = (1, 0), g = (0, 1), p = e. T e = ((lam + b) e + a g) / (lam + a + b) = (2 e + 6 g) / 8, and (0, 1) stays."""
    e, g = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    expected = torch.tensor([[0.25, 0.0], [0.75, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(eraser(e, g, e, erase_weight=6.0, preserve_weight=0.5, ridge=1.5), expected)


def test_without_conflict_targets_reach_their_goals_and_retained_prompts_stay() -> None:
    """4 target and 3 retained states in 8 dimensions are independent: both terms of J can be 0, and a small ridge lets them."""
    weight = random(6, WIDTH, seed=1)
    e, g, p = random(4, WIDTH, seed=2), random(4, WIDTH, seed=3), random(3, WIDTH, seed=4)
    edited = weight @ eraser(e, g, p, erase_weight=1.0, preserve_weight=1.0, ridge=1e-9)
    torch.testing.assert_close(edited @ e.T, weight @ g.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(edited @ p.T, weight @ p.T, rtol=0, atol=1e-6)


def test_an_infinite_ridge_leaves_the_weights_alone(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    edited = UCE(ridge=1e30)(weights, prompts)
    assert all(torch.equal(edited[name], weights[name]) for name in weights)


def test_a_larger_ridge_is_a_smaller_edit(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    change = [(UCE(ridge=ridge)(weights, prompts)[KEY] - weights[KEY]).norm() for ridge in (0.1, 1.0, 10.0, 100.0)]
    assert change == sorted(change, reverse=True)
    assert change[-1] > 0


def test_multiplying_the_prompts_is_the_same_edit(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    e, g, p = (c.states.flatten(0, 1) for c in (prompts.target, prompts.goal, prompts.retain))
    change = eraser(e, g, p, METHOD.erase_weight, METHOD.preserve_weight, METHOD.ridge)
    states = random(2, TOKENS, WIDTH, seed=9)
    torch.testing.assert_close((states @ change.mT) @ weights[KEY].T, states @ METHOD(weights, prompts)[KEY].T)


def test_two_edits_in_turn_are_one_edit_by_the_product(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    second = replace(prompts, target=cond(random(1, TOKENS, WIDTH, seed=7), "other"), goal=cond(random(1, TOKENS, WIDTH, seed=8), "new"))
    changes = []
    for asked in (prompts, second):
        e, g, p = (c.states.flatten(0, 1) for c in (asked.target, asked.goal, asked.retain))
        changes.append(eraser(e, g, p, METHOD.erase_weight, METHOD.preserve_weight, METHOD.ridge))
    in_turn = METHOD(METHOD(weights, prompts), second)
    torch.testing.assert_close(in_turn[VALUE], weights[VALUE] @ (changes[0] @ changes[1]))


def test_half_precision_weights_come_back_as_half_precision_of_the_exact_edit(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    half = {name: torch.nn.Parameter(weight.half()) for name, weight in weights.items()}
    edited, exact = METHOD(half, prompts), METHOD({name: weight.detach().double() for name, weight in half.items()}, prompts)
    for name in weights:
        assert edited[name].dtype == torch.float16
        assert not edited[name].requires_grad
        torch.testing.assert_close(edited[name], exact[name].half(), rtol=2**-10, atol=1e-6)  # one rounding step
    assert torch.is_grad_enabled()


def test_without_weight_retained_prompts_are_neither_needed_nor_read(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    method = replace(METHOD, preserve_weight=0.0)
    assert METHOD.needs == {"anchor", "retain"}
    assert method.needs == {"anchor"}
    nothing = replace(prompts, retain=prompts.retain[[]])
    assert torch.equal(method(weights, nothing)[KEY], method(weights, prompts)[KEY])
    assert not torch.equal(METHOD(weights, nothing)[KEY], METHOD(weights, prompts)[KEY])


def test_one_goal_serves_all_targets(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    one, three = replace(prompts, goal=prompts.goal[[0]]), replace(prompts, goal=prompts.goal[[0, 0, 0]])
    assert torch.equal(METHOD(weights, one)[KEY], METHOD(weights, three)[KEY])


def test_a_prompt_that_is_its_own_goal_is_refused(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    """Silently, such an edit keeps the concept that it was asked to remove."""
    with raises_error("goal-is-target", "target 0", "another anchor"):
        METHOD(weights, replace(prompts, goal=replace(prompts.target, states=prompts.target.states + 1e-9)))  # encoded once more
    same_states = torch.cat([prompts.goal.states[:2], prompts.target.states[2:]])
    with raises_error("goal-is-target", "target 2", "another anchor"):
        METHOD(weights, replace(prompts, goal=replace(prompts.goal, states=same_states)))


def test_a_bias_stays_and_other_shapes_are_refused(weights: dict[str, Tensor], prompts: EditPrompts) -> None:
    bias = random(WIDTH, seed=1)
    assert torch.equal(METHOD({"attn2.to_k.bias": bias}, prompts)["attn2.to_k.bias"], bias)
    with raises_error("wrong-state-width", [6, 9]):
        METHOD({"attn2.to_k.weight": random(6, 9, seed=1)}, prompts)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_is_positive(ridge: float) -> None:
    rows = random(2, WIDTH, seed=1)
    with raises_error("ridge-not-positive"):
        eraser(rows, -rows, rows, 1.0, 1.0, ridge)


@pytest.mark.parametrize("field", [{"ridge": 0}, {"erase_weight": -1}, {"preserve_weight": -0.1}])
def test_fields_keep_their_bounds(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(UCE).validate_python(field)


def test_masked_padding_is_left_out_and_a_shorter_goal_goes_on_with_its_last_state(weights: dict[str, Tensor]) -> None:
    """Prompts of families that mask padding are of different lengths."""
    e, g = random(1, TOKENS, WIDTH, seed=1), random(1, TOKENS, WIDTH, seed=2)

    def masked(states: Tensor, count: int, name: str) -> Cond:
        return Cond(states, (name,), {"mask": (torch.arange(TOKENS) < count)[None].long()})

    given = EditPrompts(masked(e, 4, "target"), masked(g, 2, "goal"), masked(random(1, TOKENS, WIDTH, seed=3), 3, "retain"))
    plain = EditPrompts(*(replace(c, states=c.states[:, at], extra={}) for c, at in (
        (given.target, [0, 1, 2, 3]), (given.goal, [0, 1, 1, 1]), (given.retain, [0, 1, 2]),
    )))  # fmt: skip
    assert torch.equal(METHOD(weights, given)[KEY], METHOD(weights, plain)[KEY])
