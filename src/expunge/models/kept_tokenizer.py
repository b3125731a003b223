"""A tokenizer without transformers: the library tokenizers alone, which takes no time to import."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tokenizers

from expunge.storage.files import write_atomically

VALUES = ("model_max_length", "padding_side", "unk_token", "unk_token_id", "vocab_size", "is_fast")
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

    def __call__(self, text: Any, add_special_tokens: bool = True, truncation: bool = False, **settings: Any) -> Any:
        """The tokens of one text."""
        if not isinstance(text, str) or truncation or settings.keys() - {"verbose", "return_offsets_mapping"}:
            return self._real()(text, add_special_tokens=add_special_tokens, truncation=truncation, **settings)
        found = self._backend.encode(text, add_special_tokens=add_special_tokens)
        return SimpleNamespace(input_ids=found.ids, offset_mapping=found.offsets)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[Any]:
        """The token of each id."""
        return [self._backend.id_to_token(i) for i in ids]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real(), name)
