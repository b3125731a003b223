"""UCE's pairings of tokens: by hand, and as the two releases of the authors' code compute them."""

from collections.abc import Sequence

import pytest
import tiny
import torch
from torch import Tensor

from expunge.diffusion.types import Cond
from expunge.methods import METHODS
from expunge.methods.base import EditPrompts
from expunge.methods.presets import read_preset
from expunge.methods.uce import UCE
from expunge.models.base import DiffusionModel
from expunge.models.scopes import SCOPES
from expunge.training.edit_prompts import edited, read_by

JUNK = 7.0


def cond(key: str, *states: tuple[float, float]) -> Cond:
    return Cond(torch.tensor([states], dtype=torch.float64), (key,))


def edit_of_identity(method: UCE, prompts: EditPrompts) -> Tensor:
    """T, of W' = W T."""
    return method({"w": torch.eye(2, dtype=torch.float64)}, prompts)["w"]


def test_last_tokens_by_hand():
    """e = p = (1, 0), g = (0, 1), a = 6, b = 0.5, lam = 1.5: T e = ((lam + b) e + a g) / (lam + a + b) = (2 e + 6 g) / 8."""
    prompts = EditPrompts(
        cond("target", (JUNK, 1), (1, 0), (2, JUNK)),
        cond("goal", (3, JUNK), (JUNK, 4), (0, 1)),
        cond("retain", (1, 0), (JUNK, 5), (6, JUNK)),
        {"target": (range(1, 3),), "goal": (range(2, 3),), "retain": (range(3),)},
    )
    expected = torch.tensor([[0.25, 0.0], [0.75, 1.0]], dtype=torch.float64)
    found = edit_of_identity(UCE(erase_weight=6.0, preserve_weight=0.5, ridge=1.5, pairing="last-token"), prompts)
    torch.testing.assert_close(found, expected)
    assert (edit_of_identity(UCE(erase_weight=6.0, preserve_weight=0.5, ridge=1.5), prompts) - expected).abs().max() > 0.1


def test_from_the_last_token_on_by_hand():
    """E = ((1, 0), (0, 1)), G = ((0, 1), (0, 2)), P = ((1, 0), (1, 0)) with a = b = lam = 1.

    T = I + (G - E)^T E (I + E^T E + P^T P)^-1 = I + ((-1, 0), (1, 1)) diag(1/4, 1/2).
    """
    prompts = EditPrompts(
        cond("target", (JUNK, 1), (1, 0), (0, 1), (2, JUNK)),
        cond("goal", (3, JUNK), (JUNK, 4), (0, 1), (0, 2)),
        cond("retain", (1, 0), (1, 0), (0, 0), (0, 0)),
        {"target": (range(1, 4),), "goal": (range(2, 4),), "retain": (range(3, 4),)},
    )
    found = edit_of_identity(UCE(erase_weight=1.0, preserve_weight=1.0, ridge=1.0, pairing="from-last-token"), prompts)
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.0], [0.25, 1.5]], dtype=torch.float64))


def test_each_text_encoder_has_a_last_token():
    """Of two that give rows, those of one are paired with those of the same."""
    prompts = EditPrompts(
        cond("target", (1, 0), (JUNK, 0), (0, 1), (0, JUNK)),
        cond("goal", (JUNK, 1), (0, 1), (JUNK, 2), (0, 2)),
        cond("retain", (0, 0), (JUNK, 0), (0, 0), (0, JUNK)),
        {"target": (range(2), range(2, 4)), "goal": (range(1, 2), range(3, 4)), "retain": (range(2), range(2, 4))},
    )
    found = edit_of_identity(UCE(erase_weight=1.0, preserve_weight=1.0, ridge=1.0, pairing="last-token"), prompts)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.0], [0.5, 1.5]], dtype=torch.float64))  # I + (G - E)^T / 2


# --- the released code ---------------------------------------------------------------------------------------------------------

TARGETS, GOALS = ["neon style", "a ring in neon style", "glow style"], ["", "a ring", "a disc in dots style"]
RETAINED = ["", "a cross in dots style", "a ring"]


def states_of(model: DiffusionModel, prompt: str) -> tuple[Tensor, int]:
    """The states of a prompt in double precision and the index that both releases take for the last token's: the second to last token that
    is no padding."""
    pipeline = model.pipeline
    read = pipeline.tokenizer(prompt, padding="max_length", max_length=pipeline.tokenizer.model_max_length, return_tensors="pt")
    with torch.no_grad():
        states = pipeline.text_encoder(read.input_ids)[0][0]
    return states.double(), int(read.attention_mask.sum()) - 2


def current(model: DiffusionModel, old: str, new: str) -> tuple[Tensor, Tensor]:
    """The release of 2025: the last token alone."""
    (e, at), (g, becomes_at) = states_of(model, old), states_of(model, new)
    return e[at : at + 1], g[becomes_at : becomes_at + 1]


def first(model: DiffusionModel, old: str, new: str) -> tuple[Tensor, Tensor]:
    """The release of 2023: from the last token on, with as many states cut off the end as the other prompt begins later."""
    (e, at), (g, becomes_at) = states_of(model, old), states_of(model, new)
    farthest = max(at, becomes_at)
    return e[at : len(e) - (farthest - at)], g[becomes_at : len(g) - (farthest - becomes_at)]


def released(weight: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], kept: Sequence[Tensor], method: UCE) -> Tensor:
    """Equation 7 as the released code sums it, state by state: (lam W + sum v* c^T) (lam I + sum c c^T)^-1."""
    left = method.ridge * weight
    right = method.ridge * torch.eye(weight.shape[1], dtype=torch.float64)
    for e, g in pairs:
        for c, goal in zip(e, g, strict=True):
            left = left + method.erase_weight * torch.outer(weight @ goal, c)
            right = right + method.erase_weight * torch.outer(c, c)
    for c in torch.cat(list(kept)):
        left = left + method.preserve_weight * torch.outer(weight @ c, c)
        right = right + method.preserve_weight * torch.outer(c, c)
    return left @ torch.linalg.inv(right)


@pytest.mark.parametrize("pairing", ["last-token", "from-last-token"])
def test_the_edit_is_that_of_the_released_code(pairing: str):
    model, method = tiny.model(), UCE(erase_weight=1.5, preserve_weight=0.3, ridge=0.5, pairing=pairing)
    weights = model.scope(SCOPES["entrance"])
    found = edited(method, weights, read_by(model, weights.keys(), TARGETS, GOALS, RETAINED))
    pairs = [(current if pairing == "last-token" else first)(model, old, new) for old, new in zip(TARGETS, GOALS, strict=True)]
    kept = [states_of(model, p)[0] if pairing == "from-last-token" else current(model, p, p)[0] for p in RETAINED]
    assert all(".attn2.to_k." in name or ".attn2.to_v." in name for name in found)
    for name, weight in weights.items():
        expected = released(weight.detach().double(), pairs, kept, method)
        torch.testing.assert_close(found[name].double(), expected, atol=1e-5, rtol=1e-4)
        assert (expected - weight).norm() > 0.01 * weight.norm()
    other = edited(UCE(erase_weight=1.5, preserve_weight=0.3), weights, read_by(model, weights.keys(), TARGETS, GOALS, RETAINED))
    assert any((other[name] - found[name]).norm() > 0.01 * found[name].norm() for name in found)


def test_the_preset_has_the_settings_of_the_current_release():
    settings = read_preset("uce-published")["method"]
    assert METHODS[settings.pop("name")](**settings) == UCE(1.0, 1.0, 0.5, "last-token", "bare")
