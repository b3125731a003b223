"""The classes that a class-conditional model was trained on, read from the folder of its pipeline. Needs no torch."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from expunge.concepts.labels import names_of


def listed(id2label: Mapping[Any, str] | None) -> dict[int, list[str]]:
    """The names of each class; several are separated by commas, as in ImageNet's "tench, Tinca tinca"."""
    return {int(number): str(names).split(",") for number, names in (id2label or {}).items()}


def labels_of(folder: Path) -> tuple[str, ...]:
    """The names of a model's classes, one for each; none where the folder is not that of a class-conditional model.

    A `DiTPipeline` lists them in `id2label` of model_index.json, a `UNet2DModel` in `id2label` of its own configuration.
    """
    index, dit, unet = (_read(folder / name) for name in ("model_index.json", "transformer/config.json", "unet/config.json"))
    if index.get("_class_name") == "DiTPipeline":
        return names_of(listed(index.get("id2label")), int(dit.get("num_embeds_ada_norm") or 0))
    return unet_labels(unet) if unet.get("_class_name") == "UNet2DModel" else ()


def unet_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes of a `UNet2DModel` by its configuration; none where it lists none."""
    names = listed(config.get("id2label"))
    return names_of(names, len(names))


def inverted(ids: Mapping[str, int]) -> dict[int, Iterable[str]]:
    """The names of each class, of a table from names to numbers; the shortest first, since their order is lost."""
    found: dict[int, list[str]] = {}
    for name in sorted(ids, key=lambda name: (len(name), name)):
        found.setdefault(ids[name], []).append(name)
    return dict(found)


def _read(file: Path) -> dict[str, Any]:
    """A configuration; an empty one where the file is missing or is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
