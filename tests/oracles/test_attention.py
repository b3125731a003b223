"""Recorded attention against the formula and against diffusers' own processors."""

import pytest
import tiny
import torch

from expunge.diffusion.types import Cond, Point
from expunge.errors import ExpungeError
from expunge.models.attention import recorded
from expunge.models.scopes import Scope
from expunge.training.networks import Student
from expunge.training.state import TrainState

PROMPTS = ["a ring in neon style", "neon style", ""]


def point(model) -> Point:
    return Point(torch.randn(3, 4, 8, 8), torch.tensor([500, 10, 990]), model.encode(PROMPTS), ("a", "b", "c"))


def test_maps_are_softmax_of_queries_and_keys_and_the_prediction_is_the_same():
    model = tiny.model()
    x, entered = point(model), []
    layers = [m for n, m in model.network.named_modules() if n.endswith(".attn2")]
    hooks = [m.register_forward_pre_hook(lambda *seen: entered.append(seen), with_kwargs=True) for m in layers]
    with torch.no_grad():
        maps = model.attention(x)
    [hook.remove() for hook in hooks]
    assert len(maps) == len(layers) == 4
    for (layer, [pixels], given), a in zip(entered, maps, strict=True):
        q = layer.to_q(pixels).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        k = layer.to_k(given["encoder_hidden_states"]).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        torch.testing.assert_close(a, (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1), rtol=1e-4, atol=1e-6)
        assert a.shape == (3, layer.heads, pixels.shape[1], 12)
        torch.testing.assert_close(a.sum(-1), torch.ones(a.shape[:-1]))
    with torch.no_grad(), recorded(model.network):
        slow = model.predict(x)
    torch.testing.assert_close(slow, model.predict(x).detach(), rtol=1e-4, atol=1e-5)


def test_the_processors_come_back_whatever_happens():
    model = tiny.model()
    before = dict(model.network.attn_processors)
    model.attention(point(model))
    assert dict(model.network.attn_processors) == before
    with recorded(model.network):
        assert dict(model.network.attn_processors) != before
    with pytest.raises(RuntimeError):
        model.attention(Point(torch.randn(1, 4, 8, 8), torch.tensor([5]), Cond(torch.zeros(1, 12, 7), ("too narrow",)), ("a",)))
    assert dict(model.network.attn_processors) == before


def test_a_student_of_low_rank_attends_by_its_merged_weights():
    model = tiny.model()
    state, x = TrainState(model, Scope("qk", r"\.attn2\.to_[qk]\.", rank=2)), point(model)
    with torch.no_grad():
        for factor in state.trained.values():
            factor += 0.2 * torch.randn_like(factor)
        merged = state.delta()
    student = Student(model, state)
    for ours, theirs, untouched in zip(student.attention(x), model.attention(x, merged), model.attention(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert (ours - untouched).abs().max() > 1e-3
    assert student.with_gradient == 3


def test_spans_say_what_each_token_is():
    rows = tiny.model().tokens(["a ring in neon style", "glow style", "a ring in neon style"], ("neon", "glow"))
    # start, a, ring, in, NEON, style, end, 5 of padding; start, GLOW, style, end, 8 of padding
    assert rows.tolist() == [[0, 0, 0, 0, 1, 0, 2, 3, 3, 3, 3, 3], [0, 1, 0, 2, *[3] * 8], [0, 0, 0, 0, 1, 0, 2, 3, 3, 3, 3, 3]]


@pytest.mark.parametrize("is_fast", [True, False])
def test_both_kinds_of_tokenizers_find_the_same_spans(is_fast, monkeypatch):
    """Those of transformers 4 do not say where a token stands in the text."""
    model = tiny.model()
    monkeypatch.setattr(type(model.pipeline.tokenizer), "is_fast", is_fast)
    assert model.tokens(["a ring in neon style"], ("neon", "ring in")).tolist() == [[0, 0, 1, 1, 1, 0, 2, 3, 3, 3, 3, 3]]


def test_a_name_of_several_tokens_is_found_whole():
    [row] = tiny.model().tokens(["a ring in neon style"], ("ring in",)).tolist()
    assert row[:7] == [0, 0, 1, 1, 0, 0, 2]


def test_a_prompt_without_the_concept_is_refused():
    with pytest.raises(ExpungeError) as caught:
        tiny.model().tokens(["neon style", "a ring in dots style"], ("neon", "glow"))
    assert (caught.value.rule, caught.value.value) == ("prompt-without-concept", "a ring in dots style")
