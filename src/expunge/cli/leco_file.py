"""Prompt files of LECO and of kohya's `train_leco.py`, read as a configuration of ESD.

LECO trains on || eps(target) - [eps(neutral) - guidance (eps(positive) - eps(unconditional))] ||^2. With the target as positive and empty
neutral and unconditional prompts that is ESD's objective with the empty prompt; anything else has no counterpart and is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.names import suggest

KEYS = (
    "target", "positive", "neutral", "unconditional", "action", "guidance", "guidance_scale", "resolution", "batch_size",
    "dynamic_resolution", "dynamic_crops",
)  # fmt: skip
"""The keys of a prompt."""

NUMBERS: dict[str, Any] = {"guidance": int | float, "guidance_scale": int | float, "resolution": int, "batch_size": int}
"""The types of those that are numbers; the others are texts, or switches."""


def is_leco(tables: Mapping[str, Any]) -> bool:
    """Whether the tables of a TOML file are prompts of LECO: a list `[[prompts]]`, or one prompt at the top."""
    return "prompts" in tables or isinstance(tables.get("target"), str)


def read_leco(tables: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The configuration that says the same: ESD of low rank on the bare names of the targets.

    Raises:
        ExpungeError: an unknown key, or a value that ESD has no counterpart for; prompts that differ in guidance or batch size.
    """
    prompts = tables.get("prompts", [tables])
    if not isinstance(prompts, list) or not prompts or not all(isinstance(p, Mapping) for p in prompts):
        raise ExpungeError(
            f"The key prompts in {path} is {prompts!r}, not a list of tables.",
            rule="wrong-type",
            value=prompts,
            hint="Try [[prompts]] with a target.",
        )
    for prompt in prompts:
        _check(prompt, path)
    guidance = _shared([p.get("guidance", p.get("guidance_scale", 1.0)) for p in prompts], "guidance", path)
    batch = _shared([p.get("batch_size") for p in prompts], "batch_size", path)
    targets = [{"target": prompt["target"].strip()} for prompt in prompts]
    return {
        "concept": targets[0] if len(targets) == 1 else {"targets": targets},
        "method": {"name": "esd", "negative_guidance": guidance, "surrogate": "null", "variant": "xattn-lora"},
        "training": {"prompts": "bare"} | ({} if batch is None else {"batch_size": batch}),
    }


def resolutions(tables: Mapping[str, Any]) -> list[int]:
    """The sizes of images that the prompts ask for, in pixels."""
    return sorted({p["resolution"] for p in tables.get("prompts", [tables]) if "resolution" in p})


def refuse_size(asked: list[int], size: int) -> None:
    """Refuses a resolution other than that of the model, which runs train at.

    Raises:
        ExpungeError: there is one.
    """
    if other := [one for one in asked if one != size]:
        raise ExpungeError(
            f"The resolution {other[0]} is not that of the model. Runs train on images of {size} pixels.",
            rule="leco-resolution",
            value=other[0],
            hint=f"Try resolution = {size}.",
        )


def _check(prompt: Mapping[str, Any], path: Path) -> None:
    """Refuses a prompt that is not ESD's objective."""
    if unknown := [key for key in prompt if key not in KEYS]:
        raise ExpungeError(
            f"A prompt in {path} has an unknown key {unknown[0]!r}.", rule="unknown-key", value=unknown[0], hint=suggest(unknown[0], KEYS)
        )
    for key, value in prompt.items():
        if not isinstance(value, NUMBERS.get(key, bool if key.startswith("dynamic_") else str)) or (key in NUMBERS and value is True):
            raise ExpungeError(
                f"The key {key} in {path} is {value!r}, which is of another type.", rule="wrong-type", value=value, hint="Try LECO's form."
            )
    texts = {"target": "", "neutral": "", "unconditional": "", "action": "erase", "positive": prompt.get("target", "")} | dict(prompt)
    target = texts["target"].strip()
    switched = [key for key in ("dynamic_resolution", "dynamic_crops") if prompt.get(key)]
    for key, is_so, remedy in (
        ("target", not target, "the concept's name as the target"),
        ("action", texts["action"] != "erase", "action = 'erase'; expunge removes concepts only"),
        ("positive", texts["positive"].strip() != target, "positive equal to target, or the positive as the target"),
        ("neutral", bool(texts["neutral"].strip()), "`expunge unlearn ca --anchor WORDS`, which maps to the anchor"),
        ("unconditional", bool(texts["unconditional"].strip()), "an empty unconditional prompt"),
        ((switched or [""])[0], bool(switched), "without it: runs train at the model's own size"),
    ):
        if is_so:
            raise ExpungeError(
                f"The {key} {texts[key]!r} of a prompt in {path} has no counterpart in ESD's objective.",
                rule="leco-no-counterpart",
                value=texts[key],
                hint=f"Try {remedy}.",
            )


def _shared(values: list[Any], key: str, path: Path) -> Any:
    """The one value of a key that is a setting of the whole run."""
    if len(distinct := list(dict.fromkeys(values))) > 1:
        raise ExpungeError(
            f"The prompts in {path} have several values of {key}: {distinct}. A run has one.",
            rule="leco-several-values",
            value=distinct,
            hint="Try a file for each, and one run after another.",
        )
    return distinct[0]
