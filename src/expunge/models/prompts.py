"""Prompts and their tokens: which tokens are the concept's, which prompts a text encoder can read, and how much of one fits."""

from bisect import bisect_right
from typing import Any

import torch

from expunge.concepts.concept import compile_names
from expunge.diffusion.types import Spans
from expunge.errors import ExpungeError

CLOSED_VOCABULARY = 2000
"""Tokenizers with fewer entries are taken to hold whole words only."""


def spans(tokenizer: Any, prompts: list[str], names: tuple[str, ...], length: int) -> Spans:
    """What each token of each prompt is, padded to `length` as the text encoder reads it.

    Raises:
        ExpungeError: a prompt in which none of the names is found.
    """
    find = _by_offsets if tokenizer.is_fast else _by_ids
    found = {prompt: find(tokenizer, prompt, names) for prompt in dict.fromkeys(prompts)}
    if odd := next((prompt for prompt, row in found.items() if not any(row)), None):
        raise ExpungeError(
            f"The prompt {odd!r} names none of {', '.join(names)}.",
            rule="prompt-without-concept",
            value=odd,
            hint="Try the concept's name as prompts spell it.",
        )
    rows = ([*map(int, found[prompt][:-1]), 2] for prompt in prompts)
    return torch.tensor([row + [3] * (length - len(row)) for row in rows])


def _by_offsets(tokenizer: Any, prompt: str, names: tuple[str, ...]) -> list[bool]:
    """Which tokens overlap a name, by where they stand in the text: the ids of a name depend on what comes before it."""
    places = [match.span() for match in compile_names(names).finditer(prompt)]
    offsets = tokenizer(prompt, return_offsets_mapping=True).offset_mapping
    return [any(begin < last and end > first for first, last in places) for begin, end in offsets]


def _by_ids(tokenizer: Any, prompt: str, names: tuple[str, ...]) -> list[bool]:
    """The same by comparing ids, for tokenizers that do not tell where a token stands, as those of transformers 4 do not."""
    ids = tokenizer(prompt).input_ids
    row = [False] * len(ids)
    for wanted in (tokenizer(name, add_special_tokens=False).input_ids for name in names):
        for start in range(1, len(ids) - len(wanted)):
            if ids[start : start + len(wanted)] == wanted:
                row[start : start + len(wanted)] = [True] * len(wanted)
    return row


def check_words(tokenizer: Any, prompt: str, length: int) -> None:
    """Refuses a prompt that a text encoder of `length` tokens would cut short or could not read.

    Raises:
        ExpungeError: more tokens than the text encoder reads, or a word that it cannot read.
    """
    ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
    if len(ids) > length:
        raise ExpungeError(
            f"The prompt {prompt!r} has {len(ids)} tokens, and the text encoder reads {length}.",
            rule="prompt-too-long",
            value=prompt,
            hint="Try a shorter prompt.",
        )
    written = tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids
    odd = _torn_words(tokenizer, tokenizer.convert_ids_to_tokens(written))
    if tokenizer.unk_token_id in written or odd:
        read = " ".join(odd[0]) if odd else tokenizer.unk_token
        raise ExpungeError(
            f"The prompt {prompt!r} holds a word that the tokenizer does not know. It is read as {read!r}.",
            rule="unknown-word",
            value=prompt,
            hint="Try a word that the model was trained on; `expunge ls concepts` lists those of the vocabulary.",
        )


def _torn_words(tokenizer: Any, tokens: list[str]) -> list[list[str]]:
    """Words that the tokenizer takes apart as it does those that no model was trained on. Only CLIP's kind marks where a word ends."""
    if not any(token.endswith("</w>") for token in tokens):
        return []
    words = [w.split() for w in " ".join(tokens).replace("</w>", "\n").splitlines()]
    # A vocabulary of words (the canvas) never splits one that it knows; one of pieces splits rare words, but into pieces.
    closed = tokenizer.vocab_size < CLOSED_VOCABULARY
    return [w for w in words if len(w) > (1 if closed else 2) and "".join(w).isalpha() and (closed or all(len(p) == 1 for p in w))]


def fitting(tokenizer: Any, caption: str, room: int) -> str:
    """The longest beginning of a caption, in whole words, that has no more than `room` tokens."""
    words = caption.split()

    def tokens(count: int) -> int:
        return len(tokenizer(" ".join(words[:count]), truncation=False, verbose=False).input_ids)

    return caption if tokens(len(words)) <= room else " ".join(words[: bisect_right(range(len(words)), room, key=tokens) - 1])


def in_chat(tokenizer: Any, prompt: str, **settings: bool) -> str:
    """A prompt as what a user says to a language model, in the words of its tokenizer's template."""
    chat = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **settings)
