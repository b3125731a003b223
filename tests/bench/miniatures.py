"""Small pipelines and files in the form of the published protocols' own."""

import csv
import itertools
import json
import string
from collections.abc import Sequence
from pathlib import Path

import tiny
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from expunge.canvas.pipeline import assemble, new_text_encoder

SIGNS = ".,-'!?:;()0123456789"


def english_tokenizer(folder: Path) -> CLIPTokenizer:
    """Joins letters two by two, so that it can read any English words, as one that was trained on many."""
    letters = string.ascii_lowercase
    singles = [*letters, *SIGNS]
    merges = [(a, b + end) for end in ("</w>", "") for a, b in itertools.product(letters, repeat=2)]
    tokens = [*singles, *(f"{c}</w>" for c in singles), *(a + b for a, b in merges)]
    tokens += [*(f"<unused {i}>" for i in range(2000 - len(tokens))), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def english_pipeline(folder: Path) -> StableDiffusionPipeline:
    """A tiny Stable Diffusion that reads English."""
    words, of = english_tokenizer(folder), tiny.pipeline()
    return assemble(of.vae, new_text_encoder(words), words, of.unet)


def write_csv(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([columns, *rows])
    return file
