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
from expunge.evaluation.information.interview import Asked, Interview, asked_of
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


def write_maps(interview: Interview, subject: Subject, folder: Path) -> list[dict[str, Any]]:
    """Render maps for a few images of each removed concept, for both models. Returns their entries of `information.json`."""
    told = []
    for number, part in enumerate(subject.parts):
        asked = asked_of(replace(part, synonyms=()), interview.meter.maps, interview.meter.seed)
        for at, (entry, drawings) in enumerate(_entries(interview, part, asked)):
            names = {name: f"pictures/{number:02d}-{at:02d}-{name}.png" for name in drawings}
            for name, content in drawings.items():
                write_atomically(folder / names[name], content)
            told.append(entry | {"files": names})
    return told


def _entries(interview: Interview, part: Concept, asked: Sequence[Asked]) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """For each image: its prompts and sums, and its renderings by name."""
    other = _nearest(interview, part, asked)
    prompts, joined = {"given": [a.prompt for a in asked], "without": [a.without for a in asked]}, False
    if other:
        prompts["other"] = [a.naming(other) for a in asked]
        prompts["both"], joined = _joint(interview, asked, other)
    x, weights = interview.points(asked, interview.axis, interview.meter.map_draws)
    model, seeds = interview.model, [a.seed for a in asked]
    base = _said(interview, x, prompts)
    drawn = {"base": model.decode(interview.pictures(asked))}
    split = {"base": _split(interview, x, weights, base, base)}
    with swapped(model.network, interview.delta):
        split["unlearned"] = _split(interview, x, weights, _said(interview, x, prompts), base)
        drawn["unlearned"] = model.decode(model.sample_latents(model.encode(prompts["given"]), seeds, interview.sampler))
    entries = []
    for at in range(len(asked)):
        scales = {name: maps[at].abs().flatten().quantile(BRIGHT).item() for name, maps in split["base"].items()}
        scales |= dict.fromkeys(SHOWN[:3], scales["total"])
        about = {"concept": part.target, **{name: texts[at] for name, texts in prompts.items() if texts}, "joined": joined}
        nats = {who: {name: maps[at].sum().item() for name, maps in parts.items()} for who, parts in split.items()}
        pictures = {who: png(pictures[at]) for who, pictures in drawn.items()}
        pictures |= {f"{who}-{name}": heat(maps[at, 0], scales[name]) for who, parts in split.items() for name, maps in parts.items()}
        entries.append((about | {"nats": nats}, pictures))
    return entries


def _nearest(interview: Interview, part: Concept, asked: Sequence[Asked]) -> str | None:
    """The sibling whose name gives the base model most information about these images; None if there is none."""
    names = [m.name for m in (part.siblings or part.others)[:CANDIDATES]]
    if not names:
        return None
    x, weights = interview.points(asked, interview.axis, interview.meter.draws)
    given, without = interview.base_says(x, asked)

    def tells(name: str) -> float:
        said = predictions(interview.model.predict, x, interview.model.encode([a.naming(name) for a in asked]))
        return (gain(given, without, said).sum((1, 2, 3)).cpu() * weights.flatten()).sum().item()

    return max(names, key=tells)


def _joint(interview: Interview, asked: Sequence[Asked], other: str) -> tuple[list[str], bool]:
    """Prompts that contain both names, joined by "and" where the model can encode it and by a space otherwise; and whether "and" is
    used."""
    for between in (" and ", " "):
        prompts = [a.naming(f"{a.concept}{between}{other}") for a in asked]
        try:
            interview.model.encode(prompts)
        except ExpungeError:
            continue
        return prompts, between == " and "
    return [], False


def _said(interview: Interview, x: Noised, prompts: Mapping[str, Sequence[str]]) -> dict[str, Latents]:
    """The predictions of the current model under each set of prompts; empty sets are left out."""
    model = interview.model
    return {name: predictions(model.predict, x, model.encode(list(texts))) for name, texts in prompts.items() if texts}


def _split(
    interview: Interview, x: Noised, weights: Weights, said: Mapping[str, Latents], base: Mapping[str, Latents]
) -> dict[str, Float[Tensor, "n 1 h w"]]:
    """The maps to render, for each image."""

    def told(name: str) -> Maps:
        noise = interview.noise(x, said[name], base["given"])
        maps = gain(noise, said["without"], said[name]).cpu() * weights.flatten()[:, None, None, None]
        return smoothed(maps.unflatten(0, weights.shape).mean(1).float(), SMOOTH)

    if "other" not in said:
        return {"total": told("given")}
    # Without a joint prompt the synergy is unknown. The other parts do not depend on it.
    parts = decomposed(told("given"), told("other"), told("both" if "both" in said else "given"))
    return {name: getattr(parts, name) for name in SHOWN if name != "synergistic" or "both" in said}


def heat(values: Float[Tensor, "h w"], scale: float) -> bytes:
    """Render a map as PNG: white for 0, the strongest colours at plus and minus `scale`."""
    import matplotlib

    size = max(PIXELS, *values.shape)
    large = F.interpolate(values[None, None], size=(size, size * values.shape[1] // values.shape[0]), mode="bilinear")[0, 0]
    share = (0.5 + 0.5 * large / (scale or 1.0)).clamp(0, 1)
    colours = torch.from_numpy(matplotlib.colormaps[COLOURS](share.numpy(), bytes=True)[..., :3].copy())
    return png(colours.permute(2, 0, 1))
