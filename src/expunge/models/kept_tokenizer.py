"""A tokenizer without transformers: the library tokenizers alone, which takes no time to import."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tokenizers

from expunge.storage.files import write_atomically

VALUES = ("model_max_length", "padding_side", "unk_token", "unk_token_id", "vocab_size", "is_fast", "added_tokens_encoder")
"""What prompts are checked against."""


def keep_tokenizer(tokenizer: Any, file: Path) -> dict[str, Any]:
    """Writes a fast tokenizer of transformers into a file, and returns the values that go with it."""
    write_atomically(file, tokenizer.backend_tokenizer.to_str().encode())
    return {name: getattr(tokenizer, name) for name in VALUES}


def can_be_kept(tokenizer: Any) -> bool:
    """Whether it is of the library tokenizers, and no word of it has several vectors, which a pipeline writes out."""
    added = getattr(tokenizer, "added_tokens_encoder", {})
    return bool(getattr(tokenizer, "is_fast", False)) and not any(f"{word}_1" in added for word in added)


class KeptTokenizer:
    """Called as the tokenizer of transformers that it was kept of. What it lacks it takes from that one."""

    def __init__(self, file: Path, values: dict[str, Any], real: Callable[[], Any]):
        self._backend, self._real = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8")), real
        self._backend.no_truncation()
        self._backend.no_padding()
        self.__dict__.update(values)

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def __call__(self, text: Any, add_special_tokens: bool = True, truncation: bool = False, **settings: Any) -> Any:
        """The tokens of one text, or of each of several."""
        if truncation or settings.keys() - {"verbose", "return_offsets_mapping"}:
            return self._real()(text, add_special_tokens=add_special_tokens, truncation=truncation, **settings)
        if isinstance(text, str):
            found = self._backend.encode(text, add_special_tokens=add_special_tokens)
            return SimpleNamespace(input_ids=found.ids, offset_mapping=found.offsets)
        each = self._backend.encode_batch(list(text), add_special_tokens=add_special_tokens)
        return SimpleNamespace(input_ids=[one.ids for one in each], offset_mapping=[one.offsets for one in each])

    def batch_decode(self, ids: list[list[int]]) -> list[str]:
        """The text of each row of tokens, with a space where a token ends a word."""
        texts = self._backend.decode_batch(ids, skip_special_tokens=False)
        suffix = getattr(self._backend.model, "end_of_word_suffix", None)  # CLIP's; transformers replaces it, the library does not
        return [text.replace(suffix, " ").strip() for text in texts] if suffix else texts

    def convert_ids_to_tokens(self, ids: list[int]) -> list[Any]:
        """The token of each id."""
        return [self._backend.id_to_token(i) for i in ids]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real(), name)
