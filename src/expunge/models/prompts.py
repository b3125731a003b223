"""Prompts and their tokens: which tokens are the concept's, which prompts a text encoder can read, and how much of one fits."""

from bisect import bisect_right
from typing import Any

import torch

from expunge.diffusion.types import Spans
from expunge.errors import ExpungeError

CLOSED_VOCABULARY = 2000
"""Tokenizers with fewer entries are taken to hold whole words only."""


def spans(tokenizer: Any, prompts: list[str], names: tuple[str, ...]) -> Spans:
    """What each token of each prompt is, padded as the text encoder reads it.

    Raises:
        ExpungeError: a prompt in which none of the names is found.
    """
    wanted = [tokenizer(name, add_special_tokens=False).input_ids for name in names]
    found = {prompt: _span(tokenizer(prompt).input_ids, wanted, tokenizer.model_max_length) for prompt in dict.fromkeys(prompts)}
    if odd := next((prompt for prompt, row in found.items() if 1 not in row), None):
        raise ExpungeError(
            f"The prompt {odd!r} names none of {', '.join(names)}.",
            rule="prompt-without-concept",
            value=odd,
            hint="Try the concept's name as prompts spell it.",
        )
    return torch.tensor([found[prompt] for prompt in prompts])


def _span(ids: list[int], wanted: list[list[int]], length: int) -> list[int]:
    end = len(ids) - 1
    row = [0] * end + [2] + [3] * (length - end - 1)
    for name in wanted:
        for start in range(1, end - len(name) + 1):
            if ids[start : start + len(name)] == name:
                row[start : start + len(name)] = [1] * len(name)
    return row


def check_words(tokenizer: Any, prompt: str) -> None:
    """Refuses a prompt that a text encoder would cut short or could not read.

    Raises:
        ExpungeError: more tokens than the text encoder reads, or a word that it cannot read.
    """
    ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
    if len(ids) > tokenizer.model_max_length:
        raise ExpungeError(
            f"The prompt {prompt!r} has {len(ids)} tokens, and the text encoder reads {tokenizer.model_max_length}.",
            rule="prompt-too-long",
            value=prompt,
            hint="Try a shorter prompt.",
        )
    tokens = tokenizer.convert_ids_to_tokens(ids[1:-1])
    words = [w.split() for w in " ".join(tokens).replace("</w>", "\n").splitlines()]
    # A vocabulary of words (the canvas) never splits one that it knows; one of pieces splits rare words, but into pieces.
    closed = tokenizer.vocab_size < CLOSED_VOCABULARY
    odd = [w for w in words if len(w) > (1 if closed else 2) and "".join(w).isalpha() and (closed or all(len(p) == 1 for p in w))]
    if tokenizer.unk_token_id in ids[1:-1] or odd:
        read = " ".join(odd[0]) if odd else tokenizer.unk_token
        raise ExpungeError(
            f"The prompt {prompt!r} holds a word that the tokenizer does not know. It is read as {read!r}.",
            rule="unknown-word",
            value=prompt,
            hint="Try a word that the model was trained on; `expunge ls concepts` lists those of the vocabulary.",
        )


def fitting(tokenizer: Any, caption: str) -> str:
    """The longest beginning of a caption, in whole words, that the text encoder has room for."""
    words = caption.split()

    def tokens(count: int) -> int:
        return len(tokenizer(" ".join(words[:count]), truncation=False, verbose=False).input_ids)

    room = tokenizer.model_max_length
    return caption if tokens(len(words)) <= room else " ".join(words[: bisect_right(range(len(words)), room, key=tokens) - 1])
