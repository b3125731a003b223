"""Tokens, limits and unknown words, by tokenizers of every kind."""

import pytest
import tiny
from families import stable_diffusion_3
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from expunge.errors import ExpungeError
from expunge.models.prompts import check_words, fitting, spans


def byte_pairs() -> Qwen2Tokenizer:
    """Of Qwen's kind: it knows any text, letter by letter where it has no word, and does not mark where a word ends."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t")]
    vocabulary = [*letters, *("".join(pair) for pair in merges), "<|endoftext|>"]
    return Qwen2Tokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, merges=merges)


@pytest.mark.parametrize("prompt", ["a cat", "some cat that no vocabulary holds"])
def test_a_tokenizer_that_takes_any_text_refuses_no_word(prompt):
    """Joined by the mark of CLIP's kind, its tokens would seem to be one word, torn to pieces."""
    check_words(byte_pairs(), prompt, 100)


def test_other_tokenizers_refuse_what_is_unknown_or_too_long():
    t5 = stable_diffusion_3.model().pipeline.tokenizer_3
    check_words(t5, "a ring in neon style", 6)
    for prompt, length, rule in (("a dog", 6, "unknown-word"), ("a ring in neon style", 5, "prompt-too-long")):
        with pytest.raises(ExpungeError) as caught:
            check_words(t5, prompt, length)
        assert (caught.value.rule, caught.value.value) == (rule, prompt)


def test_a_name_is_found_where_its_tokens_are_others_than_alone():
    """Behind a space "cat" is one token, at the beginning three."""
    tokenizer = byte_pairs()
    assert [len(tokenizer(text).input_ids) for text in ("cat", " cat")] == [3, 1]
    # Byte pairs have no end of the text: the last token stands for it.
    assert spans(tokenizer, ["a cat a"], ("cat",), 5).tolist() == [[0, 1, 0, 2, 3]]
    with pytest.raises(ExpungeError) as caught:
        spans(tokenizer, ["a catalogue"], ("cat",), 20)
    assert caught.value.rule == "prompt-without-concept"


def test_a_caption_is_cut_to_what_every_encoder_reads():
    assert fitting(tiny.tokenizer(), "a ring in neon style", 5) == "a ring in"
    assert stable_diffusion_3.model().fitting("a ring " * 6) == "a ring " * 4 + "a ring"
