"""The text encoder by token vectors gives what it gives by prompts, with a gradient that is right, and keeps nothing of it."""

import pytest
import tiny
import torch
from raising import raises_error

from expunge.models.text_encoder import BLANK, Words

PROMPTS = ["", "neon style", "a ring in neon style", "a ring in neon style in neon style"]


@pytest.mark.parametrize("masked", [False, True])
def test_the_vectors_of_a_prompt_give_the_states_of_the_prompt(masked):
    model = tiny.model()
    model.pipeline.text_encoder.config.use_attention_mask = masked
    words = Words(model)
    states = words.encode(words.write(PROMPTS))
    assert torch.equal(states, model.encode(PROMPTS).states)


def test_an_encoder_that_heeds_the_mask_gives_other_states_where_there_is_padding():
    """So that the test above can fail."""
    heedless, heeding = tiny.model(), tiny.model()
    heeding.pipeline.text_encoder.config.use_attention_mask = True
    assert not torch.equal(heedless.encode(["neon style"]).states, heeding.encode(["neon style"]).states)


def test_prompts_are_written_as_the_tokenizer_writes_them():
    words = Words(tiny.model())
    expected = words.tokenizer(PROMPTS, padding="max_length", max_length=words.tokenizer.model_max_length, return_tensors="pt")
    written = words.write(PROMPTS)
    assert torch.equal(written.ids, expected.input_ids)
    assert torch.equal(written.mask, expected.attention_mask)
    assert not written.blank.any()


@pytest.mark.parametrize("name", ["ring", "ring disc"])
def test_a_blank_that_is_filled_is_the_prompt_with_those_words(name):
    model = tiny.model()
    words = Words(model)
    ids = torch.tensor([words.tokenizer(name, add_special_tokens=False).input_ids] * 2)
    written = words.write([f"a {BLANK} in neon style", f"{BLANK} a ring"], ids.shape[1])
    typed = model.encode([f"a {name} in neon style", f"{name} a ring"]).states
    assert words.read(ids[0]) == name
    assert torch.equal(words.encode(written.filled(ids)), typed)
    assert torch.equal(words.encode(written, words.vectors(ids)), typed)
    assert torch.equal(words.encode(written[[1]], words.vectors(ids[:1])), words.encode(words.write([f"{name} a ring"])))


def test_the_gradient_is_that_of_the_embedding_table():
    """A path of its own: by the tokens' rows in the table, without vectors put in their place."""
    words = Words(tiny.model())
    written, ids = (
        words.write([f"a {BLANK} in neon style"], 2),
        torch.tensor([words.tokenizer("ring disc", add_special_tokens=False).input_ids]),
    )
    weights = torch.randn(1, 12, 96, generator=torch.Generator().manual_seed(0))
    vectors = words.vectors(ids).requires_grad_()
    [slope] = torch.autograd.grad((words.encode(written, vectors) * weights).sum(), [vectors])
    states = words.encoder(written.filled(ids).ids)[0]
    [table] = torch.autograd.grad((states * weights).sum(), [words.embedding.weight])
    torch.testing.assert_close(slope[0], table[ids[0]])
    assert slope.abs().min() > 0


def test_nothing_is_left_on_the_encoder(monkeypatch):
    words = Words(tiny.model())
    before = {n: (p.clone(), p.requires_grad) for n, p in words.encoder.named_parameters()}
    vectors = words.vectors(torch.tensor([[300]])).requires_grad_()
    torch.autograd.grad(words.encode(words.write([BLANK]), vectors).sum(), [vectors])
    monkeypatch.setattr(words.encoder.final_layer_norm, "forward", lambda states: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        words.encode(words.write([BLANK]), vectors)
    assert all(
        torch.equal(p, before[n][0]) and p.requires_grad == before[n][1] and p.grad is None for n, p in words.encoder.named_parameters()
    )
    assert not words.embedding._forward_hooks
    assert not words.vectors(torch.tensor([300])).requires_grad


def test_a_prompt_that_has_no_room_for_its_blanks_is_refused():
    words = Words(tiny.model())
    assert words.room == 10
    words.write([f"{BLANK} neon style"], 8)
    with raises_error("prompt-too-long", "<*> neon style", "fewer tokens"):
        words.write([f"{BLANK} neon style"], 9)


def test_candidates_are_the_words_that_type_back_and_hold_no_name():
    from expunge.canvas.prompts import VOCABULARY

    words = Words(tiny.model())
    found = [words.read(i[None]) for i in words.candidates(["neon", "glow"])]
    assert sorted(found) == sorted(w for w in VOCABULARY if w not in ("a", "neon", "glow"))
    assert all(
        words.tokenizer(w, add_special_tokens=False).input_ids == [i]
        for w, i in zip(found, words.candidates(["neon", "glow"]), strict=True)
    )


def test_candidates_hold_no_part_of_a_name_where_only_its_tokens_would_be_left_out():
    """Stable Diffusion's tokenizer has "vangogh" as a token of its own, which is none of those of "Van Gogh"."""
    words = Words(tiny.model())
    found = {words.read(i[None]) for i in words.candidates(["Big Star"])}
    own = set(words.tokenizer("star", add_special_tokens=False).input_ids)
    starfish = words.tokenizer("starfish", add_special_tokens=False).input_ids
    assert len(starfish) == 1
    assert not own & set(starfish)
    assert not found & {"starfish", "snowstar"}
    assert "ring" in found


def test_a_tokenizer_without_words_is_told_of(monkeypatch):
    words = Words(tiny.model())
    monkeypatch.setattr(words.tokenizer, "get_vocab", lambda: {"a</w>": 1, "ri": 2})
    with raises_error("no-words-to-search", ["neon"], "Try "):
        words.candidates(["neon"])
