"""Tokens, limits and unknown words, by tokenizers of every kind."""

import copy

import pytest
import tiny
import torch
from families import stable_diffusion_3
from raising import raises_error
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from transformers import BertTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from expunge.concepts.name_set import compile_names
from expunge.errors import ExpungeError
from expunge.models.kept_tokenizer import KeptTokenizer, keep_tokenizer
from expunge.models.prompts import Reading, check_words, fitting, spans
from expunge.models.stable_diffusion import StableDiffusion


def byte_pairs() -> Qwen2Tokenizer:
    """Of Qwen's kind: it knows any text, letter by letter where it has no word, and does not mark where a word ends."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t")]
    vocabulary = [*letters, *("".join(pair) for pair in merges), "<|endoftext|>"]
    return Qwen2Tokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, merges=merges)


@pytest.mark.parametrize("prompt", ["a cat", "some cat that no vocabulary holds"])
def test_a_tokenizer_that_takes_any_text_refuses_no_word(prompt):
    """Joined by the mark of CLIP's kind, its tokens would seem to be one word, torn to pieces."""
    check_words(Reading(byte_pairs(), 100), prompt)


def test_other_tokenizers_refuse_what_is_unknown_or_too_long():
    t5 = stable_diffusion_3.model().pipeline.tokenizer_3
    check_words(Reading(t5, 6), "a ring in neon style")
    for prompt, length, rule in (("a dog", 6, "unknown-word"), ("a ring in neon style", 5, "prompt-too-long")):
        with pytest.raises(ExpungeError) as caught:
            check_words(Reading(t5, length), prompt)
        assert (caught.value.rule, caught.value.value) == (rule, prompt)


def test_an_added_word_is_read_whole(tmp_path):
    """As those of textual inversion, which have no mark where they end. On the tokenizer of the canvas, which knows no other words."""
    tokenizer = copy.deepcopy(tiny.tokenizer())  # which all tests share
    with raises_error("unknown-word", "a gtok ring"):
        check_words(Reading(tokenizer, 20), "a gtok ring")
    tokenizer.add_tokens(["gtok"])
    values = keep_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    kept = KeptTokenizer(tmp_path / "tokenizer.json", values, lambda: pytest.fail("the real tokenizer is read"))
    for one in (tokenizer, kept):
        check_words(Reading(one, 20), "a gtok ring")
        with raises_error("unknown-word", "a gtok dog"):
            check_words(Reading(one, 20), "a gtok dog")


def test_a_name_is_found_where_its_tokens_are_others_than_alone():
    """Behind a space "cat" is one token, at the beginning three."""
    tokenizer = byte_pairs()
    assert [len(tokenizer(text).input_ids) for text in ("cat", " cat")] == [3, 1]
    # Byte pairs have no end of the text: the last token stands for it.
    assert spans(Reading(tokenizer, 5), ["a cat a"], ("cat",)).tolist() == [[0, 1, 0, 2, 3]]
    with pytest.raises(ExpungeError) as caught:
        spans(Reading(tokenizer, 20), ["a catalogue"], ("cat",))
    assert caught.value.rule == "prompt-without-concept"


def test_a_caption_is_cut_to_what_every_encoder_reads():
    assert fitting(Reading(tiny.tokenizer(), 5), "a ring in neon style") == "a ring in"
    assert stable_diffusion_3.model().fitting("a ring " * 6) == "a ring " * 4 + "a ring"


# --- where a concept's tokens are --------------------------------------------------------------------------------------------


def word_pieces() -> BertTokenizer:
    """Of BERT's kind: a Chinese character is a token, "##" begins what goes on a word."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("一只狗梵高风格，")), "a", "van", "go", "##gh", "style"]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


def whole_words() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(["[UNK]", "a", "cat", "in", "van", "gogh", "style"])}
    kind = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    kind.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=kind, unk_token="[UNK]")


KINDS = {
    "byte pairs": (byte_pairs, "a cat a", "cat", [" cat"]),
    "sentence pieces": (lambda: stable_diffusion_3.model().pipeline.tokenizer_3, "a ring in neon style", "neon", ["neon"]),
    "words": (whole_words, "a cat in van gogh style", "Van Gogh", ["van", "gogh"]),
    "word pieces": (word_pieces, "a van gogh style", "Van Gogh", ["van", "go", "##gh"]),
    "no borders": (word_pieces, "一只狗，梵高风格", "梵高", ["梵", "高"]),
    "CLIP": (tiny.tokenizer, "a ring in neon style", "neon", ["neon"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_name_are_marked(kind: str):
    make, prompt, name, expected = KINDS[kind]
    reading = Reading(make(), 20)
    check_words(reading, prompt)
    ids = reading.tokenizer(prompt).input_ids
    [row] = spans(reading, [prompt], (name,)).tolist()
    marked = [ids[i] for i, what in enumerate(row) if what == 1]
    read = [reading.tokenizer.decode([i]) if kind == "byte pairs" else reading.tokenizer.convert_ids_to_tokens(i) for i in marked]
    assert [token.strip("▁").removesuffix("</w>") for token in read] == expected
    assert row.count(3) == 20 - len(ids)


def test_a_name_at_the_end_is_the_concepts_where_no_token_ends_the_text():
    assert spans(Reading(byte_pairs(), 4), ["a cat"], ("cat",)).tolist() == [[0, 1, 3, 3]]


def test_a_template_moves_the_rows_and_counts_towards_the_limit():
    """The same word in the template is not the concept's, and rows that the pipeline drops are not counted."""
    reading = Reading(byte_pairs(), 8, dropped=(0, 2)).within(lambda prompt: f"a cat a{prompt} a")
    assert (reading.before, reading.after) == ("a cat a", " a")
    assert reading.tokenizer.tokenize(reading.text(" cat")) == ["a", "Ġcat", "Ġ", "a", "Ġcat", "Ġ", "a"]
    assert spans(reading, [" cat"], ("cat",)).tolist() == [[0, 0, 1, 0, 2, 3]]
    check_words(reading, " cat")
    for refuse in (check_words, lambda reading, prompt: spans(reading, [prompt], ("cat",))):
        with pytest.raises(ExpungeError) as caught:
            refuse(reading, " cat cat cat")
        assert (caught.value.rule, caught.value.value) == ("prompt-too-long", " cat cat cat")


def test_each_vector_of_a_textual_inversion_is_a_token():
    """diffusers writes the word out, a token for each vector: all are the concept's, and all count."""
    pipeline = tiny.pipeline()
    pipeline.tokenizer = tiny.tokenizer.__wrapped__()  # one of its own: all tiny models share the other
    pipeline.load_textual_inversion({"<glow>": torch.randn(3, 96)}, token="<glow>")
    model = StableDiffusion(pipeline)
    assert model.tokens(["a ring in <glow> style"], ("<glow>",)).tolist() == [[0, 0, 0, 0, 1, 1, 1, 0, 2, 3, 3, 3]]
    with pytest.raises(ExpungeError) as caught:
        model.encode(["a ring in <glow> style <glow> <glow>"])
    assert caught.value.rule == "prompt-too-long"


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        ("Van Gogh", "a dog in van gogh style", True),
        ("Gogh", "goghs", False),
        ("梵高", "一只狗，早期梵高风格", True),
        ("Van Gogh", "一只狗，Van Gogh风格", True),
        ("Van Gogh", "一只狗，Van Goghs风格", False),
        ("ゴッホ", "ヴァンゴッホの猫", True),
        ("แมว", "รูปแมวดำ", True),
    ],
)
def test_words_have_borders_where_their_script_has(name: str, text: str, is_found: bool):
    assert bool(compile_names([name]).search(text)) is is_found
