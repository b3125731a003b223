"""The text encoder as a function of token vectors, with gradient: for attacks that search words and leave the weights."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError, Inapplicable
from expunge.models.base import DiffusionModel

BLANK = "<*>"
"""Stands in a prompt where tokens are yet to be found."""

Ids = Int[Tensor, "b tokens"]
Vectors = Float[Tensor, "b tokens width"]


@dataclass(frozen=True)
class Written:
    """Prompts as the text encoder reads them, padded. Each holds equally many blanks, or none."""

    ids: Ids
    mask: Ids
    """1 for what is written, 0 for padding."""
    blank: Bool[Tensor, "b tokens"]

    def __getitem__(self, rows: list[int]) -> "Written":
        return Written(self.ids[rows], self.mask[rows], self.blank[rows])

    def filled(self, ids: Int[Tensor, "b blanks"]) -> "Written":
        """With these tokens in the blanks, which stay marked."""
        return Written(self.ids.masked_scatter(self.blank, ids), self.mask, self.blank)


class Words:
    """The tokenizer and the text encoder of a pipeline. Nothing here leaves a gradient on the encoder or changes it.

    Raises:
        Inapplicable: the model reads prompts by several text encoders, and no one vector stands for a token, or by none; or it reads more
            than the last states of the only one.
    """

    def __init__(self, model: DiffusionModel):
        hint = "Try an attack that changes weights, such as relearn."
        if (count := len(model.text_encoder_parts)) != 1:
            raise Inapplicable(
                f"A search for words needs one text encoder, and a {model.family} model has {count}.",
                rule="several-text-encoders",
                value=model.family,
                hint=hint,
            )
        if not model.reads_encoder_alone:
            raise Inapplicable(
                f"A search for words needs the last states of the text encoder, and a {model.family} model reads them masked, or others.",
                rule="other-text-encoder",
                value=model.family,
                hint=hint,
            )
        model.resting.stay()  # gradients go through the network and the encoder in one graph
        self.tokenizer, self.encoder, self.device = model.pipeline.tokenizer, model.pipeline.text_encoder, model.device
        self.embedding = self.encoder.get_input_embeddings()

    def write(self, prompts: list[str], blanks: int = 1) -> Written:
        """Prompts as `DiffusionModel.encode` reads them, with `blanks` empty tokens where a prompt has `BLANK`.

        Raises:
            ExpungeError: more tokens than the text encoder reads.
        """
        first, last = self.tokenizer("").input_ids
        longest, rows, marks = self.tokenizer.model_max_length, [], []
        for prompt in prompts:
            parts = [self.tokenizer(part, add_special_tokens=False).input_ids for part in prompt.split(BLANK)]
            row, mark = [first, *parts[0]], [False] * (1 + len(parts[0]))
            for part in parts[1:]:
                row, mark = [*row, *[last] * blanks, *part], [*mark, *[True] * blanks, *[False] * len(part)]
            if len(row) + 1 > longest:
                raise ExpungeError(
                    f"The prompt {prompt!r} has {len(row) + 1} tokens, {blanks} for each {BLANK}. The text encoder reads {longest}.",
                    rule="prompt-too-long",
                    value=prompt,
                    hint="Try fewer tokens.",
                )
            rows.append([*row, last])
            marks.append(mark)
        padding = self.tokenizer.pad_token_id
        return Written(
            torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=self.device),
            torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.device),
            torch.tensor([mark + [False] * (longest - len(mark)) for mark in marks], device=self.device),
        )

    @property
    def room(self) -> int:
        """Tokens that a prompt may have, besides its beginning and its end."""
        return self.tokenizer.model_max_length - 2

    def vectors(self, ids: Int[Tensor, "*any"]) -> Float[Tensor, "*any width"]:
        """What stands for tokens at the text encoder's entrance, without gradient."""
        return self.embedding.weight.detach()[ids].float()

    def embed(self, written: Written, found: Float[Tensor, "b blanks width"] | None = None) -> Vectors:
        """The vectors of all tokens of each prompt, with `found` in its blanks."""
        plain = self.vectors(written.ids)
        return plain if found is None else plain.masked_scatter(written.blank[:, :, None], found)

    def encode_embedded(self, written: Written, vectors: Vectors) -> Vectors:
        """What the network is given for a prompt whose tokens are `vectors`: the states of `DiffusionModel.encode`, with gradient.

        `written` says only where the prompt ends: all else is put in after the token embedding.
        """
        mask = written.mask if getattr(self.encoder.config, "use_attention_mask", False) else None
        handle = self.embedding.register_forward_hook(lambda module, ids, plain: vectors.to(plain.dtype))
        try:
            return self.encoder(written.ids, attention_mask=mask)[0].float()
        finally:
            handle.remove()

    def encode(self, written: Written, found: Float[Tensor, "b blanks width"] | None = None) -> Vectors:
        """The same of prompts with `found` in their blanks."""
        return self.encode_embedded(written, self.embed(written, found))

    def condition(self, written: Written, keys: tuple[str, ...], found: Float[Tensor, "b blanks width"] | None = None) -> Cond:
        """What the network is called with for such prompts, which `keys` name; with gradient into `found`."""
        return Cond(self.encode(written, found), keys)

    def read(self, ids: Int[Tensor, " tokens"]) -> str:
        """Tokens as a person types them."""
        return self.tokenizer.decode(ids.tolist()).strip()

    def candidates(self, names: Iterable[str]) -> Int[Tensor, " n"]:
        """Tokens that a prompt may be searched among: each a word of two plain letters or more, which types back to that very token.

        None is a token of one of `names` or holds a word of one: not "goghs" or "vangogh" where "Van Gogh" is named.

        Raises:
            ExpungeError: there is none.
        """
        names = list(names)
        taken = {i for name in names for i in self.tokenizer(name, add_special_tokens=False).input_ids}
        parts = {part for name in names for part in re.findall(r"\w+", name.casefold())}
        words = {token.removesuffix("</w>"): i for token, i in self.tokenizer.get_vocab().items() if token.endswith("</w>")}
        free = sorted(
            (i, word)
            for word, i in words.items()
            if i not in taken and re.fullmatch("[a-z]{2,}", word) and not any(p == word or (len(p) > 2 and p in word) for p in parts)
        )
        typed = self.tokenizer([word for _, word in free], add_special_tokens=False).input_ids if free else []
        found = [i for (i, _), ids in zip(free, typed, strict=True) if ids == [i]]
        if not found:
            raise ExpungeError(
                "The tokenizer has no words to search among beside the concept's own.",
                rule="no-words-to-search",
                value=names,
                hint="Try an attack that changes weights, such as relearn.",
            )
        return torch.tensor(found, device=self.device)
