"""Maps of where in an image the information of the concept's name is, decomposed against a sibling's name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.diffusion.decomposition import Maps, decomposed, gain, smoothed
from expunge.diffusion.types import Latents, Noised
from expunge.errors import ExpungeError
from expunge.evaluation.information.interview import ModelPair, Query, make_queries
from expunge.evaluation.information.mutual_information import Weights, predictions
from expunge.evaluation.rendering import png
from expunge.models.delta import swapped
from expunge.storage.files import write_atomically

SHOWN = ("total", "unique", "redundant", "synergistic")
"""The parts that are rendered."""
SMOOTH = 1
"""Radius of the squares over which maps are averaged before they are decomposed. Without it the minimum of two noisy maps is biased
downwards."""
CANDIDATES = 6
"""The largest number of siblings (without siblings, of other members of the kind) among which the nearest is chosen."""
PIXELS = 128
"""Edge of a rendered map."""
COLOURS = "PuOr"
"""Matplotlib's colour map: purple for positive values, orange for negative ones, white for 0."""
BRIGHT = 0.99
"""The quantile of the base model's map that has the strongest colour. Total, unique and redundant share one scale, for both models.
Synergy, which may be many times as large, has its own."""


def write_maps(pair: ModelPair, subject: Subject, folder: Path) -> list[dict[str, Any]]:
    """Render maps for a few images of each removed concept, for both models. Returns their entries of `information.json`."""
    listed = []
    for number, part in enumerate(subject.parts):
        queries = make_queries(replace(part, synonyms=()), pair.meter.maps, pair.meter.seed)
        for at, (entry, drawings) in enumerate(_entries(pair, part, queries)):
            names = {name: f"pictures/{number:02d}-{at:02d}-{name}.png" for name in drawings}
            for name, content in drawings.items():
                write_atomically(folder / names[name], content)
            listed.append(entry | {"files": names})
    return listed


def _entries(pair: ModelPair, part: Concept, queries: Sequence[Query]) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """For each image: its prompts and sums, and its renderings by name."""
    other = _find_nearest(pair, part, queries)
    prompts, joined = {"given": [a.prompt for a in queries], "without": [a.without for a in queries]}, False
    if other:
        prompts["other"] = [a.prompt_with(other) for a in queries]
        prompts["both"], joined = _joint_prompts(pair, queries, other)
    x, weights = pair.points(queries, pair.axis, pair.meter.map_draws)
    model, seeds = pair.model, [a.seed for a in queries]
    base = _predict_all(pair, x, prompts)
    images = {"base": model.decode(pair.pictures(queries))}
    split = {"base": _decompose(pair, x, weights, base, base)}
    with swapped(model.network, pair.delta):
        split["unlearned"] = _decompose(pair, x, weights, _predict_all(pair, x, prompts), base)
        images["unlearned"] = model.decode(model.sample_latents(model.encode(prompts["given"]), seeds, pair.sampler))
    entries = []
    for at in range(len(queries)):
        scales = {name: maps[at].abs().flatten().quantile(BRIGHT).item() for name, maps in split["base"].items()}
        scales |= dict.fromkeys(SHOWN[:3], scales["total"])
        about = {"concept": part.target, **{name: texts[at] for name, texts in prompts.items() if texts}, "joined": joined}
        nats = {who: {name: maps[at].sum().item() for name, maps in parts.items()} for who, parts in split.items()}
        pictures = {who: png(pictures[at]) for who, pictures in images.items()}
        pictures |= {f"{who}-{name}": render_map(maps[at, 0], scales[name]) for who, parts in split.items() for name, maps in parts.items()}
        entries.append((about | {"nats": nats}, pictures))
    return entries


def _find_nearest(pair: ModelPair, part: Concept, queries: Sequence[Query]) -> str | None:
    """The sibling whose name gives the base model most information about these images; None if there is none."""
    names = [m.name for m in (part.siblings or part.others)[:CANDIDATES]]
    if not names:
        return None
    x, weights = pair.points(queries, pair.axis, pair.meter.draws)
    given, without = pair.predict_base(x, queries)

    def gain_of(name: str) -> float:
        predicted = predictions(pair.model.predict, x, pair.model.encode([a.prompt_with(name) for a in queries]))
        return (gain(given, without, predicted).sum((1, 2, 3)).cpu() * weights.flatten()).sum().item()

    return max(names, key=gain_of)


def _joint_prompts(pair: ModelPair, queries: Sequence[Query], other: str) -> tuple[list[str], bool]:
    """Prompts that contain both names, joined by "and" where the model can encode it and by a space otherwise; and whether "and" is
    used."""
    for between in (" and ", " "):
        prompts = [a.prompt_with(f"{a.concept}{between}{other}") for a in queries]
        try:
            pair.model.encode(prompts)
        except ExpungeError:
            continue
        return prompts, between == " and "
    return [], False


def _predict_all(pair: ModelPair, x: Noised, prompts: Mapping[str, Sequence[str]]) -> dict[str, Latents]:
    """The predictions of the current model under each set of prompts; empty sets are left out."""
    model = pair.model
    return {name: predictions(model.predict, x, model.encode(list(texts))) for name, texts in prompts.items() if texts}


def _decompose(
    pair: ModelPair, x: Noised, weights: Weights, predicted: Mapping[str, Latents], base: Mapping[str, Latents]
) -> dict[str, Float[Tensor, "n 1 h w"]]:
    """The maps to render, for each image."""

    def map_of(name: str) -> Maps:
        noise = pair.noise(x, predicted[name], base["given"])
        maps = gain(noise, predicted["without"], predicted[name]).cpu() * weights.flatten()[:, None, None, None]
        return smoothed(maps.unflatten(0, weights.shape).mean(1).float(), SMOOTH)

    if "other" not in predicted:
        return {"total": map_of("given")}
    # Without a joint prompt the synergy is unknown. The other parts do not depend on it.
    parts = decomposed(map_of("given"), map_of("other"), map_of("both" if "both" in predicted else "given"))
    return {name: getattr(parts, name) for name in SHOWN if name != "synergistic" or "both" in predicted}


def render_map(values: Float[Tensor, "h w"], scale: float) -> bytes:
    """Render a map as PNG: white for 0, the strongest colours at plus and minus `scale`."""
    import matplotlib

    size = max(PIXELS, *values.shape)
    large = F.interpolate(values[None, None], size=(size, size * values.shape[1] // values.shape[0]), mode="bilinear")[0, 0]
    share = (0.5 + 0.5 * large / (scale or 1.0)).clamp(0, 1)
    colours = torch.from_numpy(matplotlib.colormaps[COLOURS](share.numpy(), bytes=True)[..., :3].copy())
    return png(colours.permute(2, 0, 1))
