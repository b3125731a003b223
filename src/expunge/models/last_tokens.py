"""Which row of an encoded prompt is its last token's."""

from expunge.diffusion.types import Cond
from expunge.models.base import DiffusionModel
from expunge.models.prompts import Reading

Tails = dict[str, tuple[range, ...]]
"""By prompt: for each text encoder, its rows from the prompt's last token to its end."""


def tails(model: DiffusionModel, cond: Cond) -> Tails:
    """The rows of each prompt from its last token on, without masked padding.

    Where several text encoders give rows (Stable Diffusion 3), a prompt has a last token in each. A pooled vector and a label have one row.
    """
    readings = [reading for reading in model.readings if reading.has_rows]
    return {key: _tails(readings, key, length) for key, length in zip(cond.keys, cond.lengths, strict=True)}


def _tails(readings: list[Reading], prompt: str, length: int) -> tuple[range, ...]:
    if length == 1:
        return (range(1),)
    found, begin = [], 0
    for reading in readings:
        end = begin + reading.length - len(range(*reading.dropped))
        stop = min(end, length)
        found.append(range(min(begin + last_row(reading, prompt), stop - 1), stop))
        begin = end
    return tuple(found)


def last_row(reading: Reading, prompt: str) -> int:
    """The row of a prompt's last token, which is neither the end of the text nor of a template.

    A prompt without words has what comes before its words, as the start of the text; where nothing does, its first row.
    """
    ids = reading.tokenizer(f"{reading.before}{reading.write(prompt)}").input_ids
    while ids and ids[-1] in reading.tokenizer.all_special_ids:
        ids = ids[:-1]
    padding = reading.length - reading.count(prompt) if getattr(reading.tokenizer, "padding_side", "right") == "left" else 0
    last, (first, stop) = max(0, len(ids) - 1) + padding, reading.dropped
    return max(0, last - len(range(first, min(stop, last + 1))))
