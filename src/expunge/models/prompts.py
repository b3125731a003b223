"""Prompts and their tokens: which tokens are the concept's, which prompts a text encoder can read, and how much of one fits."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from expunge.concepts.name_set import compile_names
from expunge.diffusion.types import Spans
from expunge.errors import ExpungeError

CLOSED_VOCABULARY = 2000
"""Tokenizers with fewer entries are taken to hold whole words only."""


@dataclass(frozen=True)
class Reading:
    """How one text encoder reads a prompt: the text that its tokenizer is given, and which of the tokens become rows."""

    tokenizer: Any
    length: int
    """The number of tokens that the encoder reads, those of a template included."""
    has_rows: bool = True
    """Whether its tokens are rows of `Cond.states` that no other reading lists. False for an encoder that gives a pooled vector alone, or
    whose rows are joined to those of another by their width."""
    write: Callable[[str], str] = str
    """The prompt as the pipeline changes it before the tokenizer: in lower case, or with each vector of a textual inversion written out."""
    before: str = ""
    """What a template writes before the prompt, such as a system message."""
    after: str = ""
    """What a template writes after the prompt."""
    dropped: tuple[int, int] = (0, 0)
    """The first of the tokens whose rows the pipeline drops, and the first after them."""

    def within(self, template: Callable[[str], str]) -> "Reading":
        """The same with prompts in a template, which is a function of the prompt, such as a tokenizer's chat template."""
        gap = "\ue000"  # of the private use area: no template holds it
        before, _, after = template(gap).partition(gap)
        return replace(self, before=before, after=after)

    def text(self, prompt: str) -> str:
        """What the tokenizer is given."""
        return f"{self.before}{self.write(prompt)}{self.after}"

    def count(self, prompt: str) -> int:
        """The number of tokens, with those of the template and the special ones."""
        return len(self.tokenizer(self.text(prompt), truncation=False, verbose=False).input_ids)

    def marks(self, prompt: str, names: Sequence[str]) -> list[bool]:
        """Which tokens are a name's, of all tokens of the text. Names in the template do not count."""
        pattern = compile_names([self.write(name) for name in names])
        places = [match.span() for match in pattern.finditer(self.write(prompt))]
        if self.tokenizer.is_fast:
            # By where they stand in the text: the ids of a name depend on what comes before it.
            offsets = self.tokenizer(self.text(prompt), return_offsets_mapping=True, truncation=False, verbose=False).offset_mapping
            at = len(self.before)
            return [any(begin < at + last and end > at + first for first, last in places) for begin, end in offsets]
        return self._marks_by_ids(prompt, names)

    def _marks_by_ids(self, prompt: str, names: Sequence[str]) -> list[bool]:
        """The same by comparing ids, for tokenizers without offsets, as those of transformers 4."""
        ids = self.tokenizer(self.text(prompt)).input_ids
        row = [False] * len(ids)
        for wanted in (self.tokenizer(self.write(name), add_special_tokens=False).input_ids for name in names):
            for start in range(1, len(ids) - len(wanted)):
                if ids[start : start + len(wanted)] == wanted:
                    row[start : start + len(wanted)] = [True] * len(wanted)
        return row


def spans(reading: Reading, prompts: list[str], names: tuple[str, ...]) -> Spans:
    """What each row of each prompt is, padded to as many rows as the text encoder gives at most.

    Raises:
        ExpungeError: a prompt in which none of the names is found, or whose name lies beyond what the encoder reads.
    """
    found = {prompt: _row(reading, prompt, names) for prompt in dict.fromkeys(prompts)}
    return torch.tensor([found[prompt] for prompt in prompts])


def _row(reading: Reading, prompt: str, names: tuple[str, ...]) -> list[int]:
    marks = reading.marks(prompt, names)
    if not any(marks):
        raise ExpungeError(
            f"The prompt {prompt!r} names none of {', '.join(names)}.",
            rule="prompt-without-concept",
            value=prompt,
            hint="Try the concept's name as prompts spell it.",
        )
    if len(marks) > reading.length:
        raise _too_long(reading, prompt, len(marks))
    kinds = list(map(int, marks))
    kinds[-1] = kinds[-1] or 2  # byte pairs have no end of the text: the last token is taken for it, unless it is the concept's
    padding = [3] * (reading.length - len(kinds))
    row = [*padding, *kinds] if getattr(reading.tokenizer, "padding_side", "right") == "left" else [*kinds, *padding]
    del row[slice(*reading.dropped)]
    return row


def check_words(reading: Reading, prompt: str) -> None:
    """Refuses a prompt that a text encoder would cut short or could not read.

    Raises:
        ExpungeError: more tokens than the text encoder reads, or a word that it cannot read.
    """
    tokenizer = reading.tokenizer
    if (count := reading.count(prompt)) > reading.length:
        raise _too_long(reading, prompt, count)
    written = tokenizer(reading.write(prompt), add_special_tokens=False, truncation=False, verbose=False).input_ids
    odd = _torn_words(tokenizer, tokenizer.convert_ids_to_tokens(written))
    if tokenizer.unk_token_id in written or odd:
        read = " ".join(odd[0]) if odd else tokenizer.unk_token
        raise ExpungeError(
            f"The prompt {prompt!r} holds a word that the tokenizer does not know. It is read as {read!r}.",
            rule="unknown-word",
            value=prompt,
            hint="Try a word that the model was trained on; `expunge ls concepts` lists those of the vocabulary.",
        )


def _too_long(reading: Reading, prompt: str, count: int) -> ExpungeError:
    own = f", {reading.count('')} of them for a prompt without words" if reading.before or reading.after else ""
    return ExpungeError(
        f"The prompt {prompt!r} has {count} tokens{own}. The text encoder reads {reading.length}.",
        rule="prompt-too-long",
        value=prompt,
        hint="Try a shorter prompt.",
    )


def _torn_words(tokenizer: Any, tokens: list[str]) -> list[list[str]]:
    """Words that the tokenizer takes apart as it does those that no model was trained on. Only CLIP's kind marks where a word ends."""
    if not any(token.endswith("</w>") for token in tokens):
        return []
    added = getattr(tokenizer, "added_tokens_encoder", {})  # whole words without that mark, such as those of textual inversion
    ended = (f"{token}</w>" if token in added else token for token in tokens)
    words = [w.split() for w in " ".join(ended).replace("</w>", "\n").splitlines()]
    # A vocabulary of words (the canvas) never splits one that it knows; one of pieces splits rare words, but into pieces.
    closed = tokenizer.vocab_size < CLOSED_VOCABULARY
    return [w for w in words if len(w) > (1 if closed else 2) and "".join(w).isalpha() and (closed or all(len(p) == 1 for p in w))]


def fitting(reading: Reading, caption: str) -> str:
    """The longest beginning of a caption, in whole words, that the text encoder has room for."""
    words = caption.split()

    def tokens(count: int) -> int:
        return reading.count(" ".join(words[:count]))

    if tokens(len(words)) <= reading.length:
        return caption
    return " ".join(words[: bisect_right(range(len(words)), reading.length, key=tokens) - 1])


def in_chat(tokenizer: Any, prompt: str, **settings: bool) -> str:
    """A prompt as what a user says to a language model, in the words of its tokenizer's template."""
    chat = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **settings)
