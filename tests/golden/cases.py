"""The cases and the recorded numbers. Every number comes from a file that the public API writes.

Only the public names of `expunge`, its command line and its files are used, so that modules may move. The keys of the files come first.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from json import loads
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import expunge

ROOT = Path(__file__).parents[2]

# --- the recorded keys of each file; other keys are not compared ---------------------------------------------------------------

CARD = ("method", "seed", "scope", "rank", "dtype", "trainable", "total", "backwards", "steps_done", "relative_change", "notes")
"""Keys of `card.json`. `forwards` is not recorded, because it depends on which images are cached."""
LOG = ("step", "loss", "terms", "grad_norm")
"""Keys of each line of `log.jsonl`."""
ROW = ("method", "concept", "seed", "probe", "metric", "value", "ci_low", "ci_high", "n", "attack", "strength", "judge")
"""Keys of each line of a `rows.jsonl`. `run` is not recorded, because ids contain the fingerprint."""
CELL = ("attack", "settings", "unit", "concept", "judges", "readings", "backwards", "taught", "cut")
"""Keys of each file of an audit's `cells`."""
READING = ("strength", "n", "hits", "unasked", "shown")
EXAMPLE = ("prompt", "place", "seen", "hit")
FINDING = (
    "attack", "concept", "verdict", "judge", "second_judge", "strength", "unit", "asr", "asr_before", "asr_base", "asr_retrained",
    "best_unlearned", "best_base", "best_retrained", "area", "area_base", "area_retrained", "regained_at", "pictures", "unasked",
    "at_large",
)  # fmt: skip
"""Keys of each finding in `audit.json`."""
INFORMATION = ("name", "kind", "family", "removed", "alone", "base", "after", "base_se", "after_se")
"""Keys of each concept in `information.json`."""
PAIR = ("probe", "prompt", "seed", "wanted", "seen_base", "seen")
"""Keys of each entry of `pictures.json`."""

DELTA = "delta.safetensors"
FILE = "delta.file"
"""The key of the digest of the whole file, whose header contains the base model's fingerprint."""

# --- how much is computed ------------------------------------------------------------------------------------------------------

TRAINING = {"steps": 10, "points": 32, "pictures": 8, "retain_pictures": 8, "batch_size": 4}
"""Training of every trained run. Ten steps reach the second phase of methods that have two."""
FEWER = TRAINING | {"steps": 6}
"""Training of runs with several stages, and of runs that are only evaluated."""
CLOSED = ("uce",)
"""Methods without training."""
LESS = {"salun": {"mask_batches": 4}, "selective-amnesia": {"fisher_points": 8}}
"""Settings of methods that would take long with their defaults."""
ATTACK = {
    "relearn": {"steps": 3, "pictures": 8, "batch_size": 4},
    "few-shot": {"steps": 3, "pictures": 2, "batch_size": 4},
    "quantise": {"bits": [4]},
    "prune": {"shares": [0.3]},
    "noise": {"levels": [0.1]},
    "inversion": {"steps": 3, "shown": 4, "batch_size": 4},
    "prompt-search": {"iterations": 2, "tries": 2, "tokens": 2},
    "p4d": {"iterations": 2, "tries": 2, "tokens": 2},
    "ring-a-bell": {"eta": 1, "steps": 2, "tries": 2, "tokens": 2},
    "wording": {"form": "paraphrases"},
    "img2img": {"shares": [0.4]},
    "inpainting": {"shares": [0.5]},
    "ddim-inversion": {"calls": [2]},
    "noise-search": {"candidates": [2]},
    "noise-optimisation": {"steps": [2], "sampler_steps": 2, "points": 1},
}
"""Smallest settings of each attack."""
JUDGED = 4
"""Images of each reading of an audit."""

Numbers = dict[str, Any]
"""The recorded numbers of a case: JSON, with floats as hexadecimal texts and digests as `sha256:...`."""


@dataclass(frozen=True)
class Place:
    """The folders of a case."""

    folder: Path
    """The case's own folder, empty at first."""
    shared: Path
    """A cache for all cases. Only training uses it, which caches whole sets of images, so that results do not depend on the order of
    cases."""

    def train(self) -> None:
        """Select the shared cache."""
        os.environ["EXPUNGE_CACHE"] = str(self.shared)

    def evaluate(self) -> Path:
        """Select a cache of the case's own, and return it.

        Images are cached one by one, and the last digits of an image depend on its batch. So no other case may have sampled some of them.
        """
        os.environ["EXPUNGE_CACHE"] = str(self.folder / "cache")
        return self.folder / "cache"


def cases() -> dict[str, Callable[[Place], Numbers]]:
    """All cases by name."""
    neon, both = "neon", ["neon", "ring"]
    salun = {"method": {"name": "salun", "variant": "full", **LESS["salun"]}, "training": FEWER | {"lr": 1e-4}}
    runs: dict[str, dict[str, Any]] = {
        f"method/{name}": {"concept": neon, "method": name, **LESS.get(name, {})} for name in expunge.METHODS
    }
    runs |= {
        "several/mim-mu in sequence": {"concept": both, "method": "mim-mu", "together": "sequential", "training": FEWER},
        "several/mim-mu from previous": {
            "concept": both, "method": "mim-mu", "together": "sequential", "reference": "previous", "training": FEWER
        },
        "several/uce in sequence": {"concept": both, "method": "uce", "together": "sequential"},
        "several/mim-mu joint": {"concept": both, "method": "mim-mu"},
        "several/uce joint": {"concept": both, "method": "uce"},
        "before/salun then pure": {"concept": neon, "method": "pure", "beta": 15.0, "before": [salun], "training": FEWER},
        "before/salun then uce": {"concept": neon, "method": "uce", "preserve_weight": 1.0, "before": [salun]},
        "variant/mim-mu low rank": {"concept": neon, "method": "mim-mu", "variant": "xattn-lora", "training": TRAINING | {"whiten": 0.0}},
        "variant/mim-mu full": {"concept": neon, "method": "mim-mu", "variant": "full", "training": FEWER | {"lr": 1e-4}},
        "variant/mim-mu bf16": {"concept": neon, "method": "mim-mu", "dtype": "bf16"},
        "variant/mim-mu ema": {"concept": neon, "method": "mim-mu", "training": FEWER | {"ema": 0.9}},
        "variant/mim-mu accumulate": {"concept": neon, "method": "mim-mu", "training": FEWER | {"accumulate": 2}},
        "variant/mim-mu checkpointing": {"concept": neon, "method": "mim-mu", "training": FEWER | {"gradient_checkpointing": True}},
        "variant/mim-mu seed 1": {"concept": "hexagon", "method": "mim-mu", "seed": 1, "training": FEWER},
        "variant/mim-mu paper": {
            "concept": neon, "method": "mim-mu", "target_as": "null", "eta": 0.0, "lock": 0.0, "training": FEWER | {"whiten": 0.0}
        },
        "variant/f-dmu variational": {"concept": neon, "method": "f-dmu", "form": "variational", "training": FEWER},
        "variant/esd paper": {
            "concept": neon, "method": "esd", "surrogate": "null", "training": FEWER | {"prompts": "bare", "schedule": "constant"}
        },
    }  # fmt: skip
    found: dict[str, Callable[[Place], Numbers]] = {name: partial(_unlearned, **given) for name, given in runs.items()}
    found |= {
        "variant/mim-mu until gone": _until_gone,
        "compose/uce": _composed,
        "load/mim-mu": _loaded,
        "evaluate/mim-mu": partial(_evaluated, concept=neon, method="mim-mu"),
        "evaluate/uce": partial(_evaluated, concept=neon, method="uce"),
        "evaluate/uce in sequence": partial(_evaluated, concept=both, method="uce", together="sequential"),
        "information/uce": _informed,
        **{f"audit/{name}": partial(_audited, attack=name) for name in expunge.ATTACKS},
        "audit/with a control": partial(_audited, attack="quantise", control=None),
        "bench/one unit": _benched,
    }
    return found


# --- cases ---------------------------------------------------------------------------------------------------------------------


def _run(place: Place, concept: Any, method: str, name: str = "run", **given: Any) -> Path:
    """Remove a concept, and return the run's folder."""
    place.train()
    training = {} if method in CLOSED else {"training": TRAINING}
    expunge.unlearn("canvas", concept, method, out=place.folder / name, device="cpu", **training | given)
    return place.folder / name


def _unlearned(place: Place, **given: Any) -> Numbers:
    return of_run(_run(place, **given))


def _until_gone(place: Place) -> Numbers:
    return of_run(_run(place, "neon", "mim-mu", training=TRAINING | {"lr": 3e-3}, stop=expunge.Gone(every=2)))


def _composed(place: Place) -> Numbers:
    made = [_run(place, concept, "uce", concept) for concept in ("neon", "ring")]
    expunge.compose(made, out=place.folder / "composed", device="cpu")
    return of_run(place.folder / "composed")


def _loaded(place: Place) -> Numbers:
    """The pipeline with the run's weights, an image by it, and the run as a LoRA."""
    run = _run(place, "neon", "mim-mu", training=FEWER)
    pipeline = expunge.load("canvas", run, device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(0)
    [picture] = pipeline("a ring in neon style", num_inference_steps=4, guidance_scale=3.0, generator=noise, output_type="pt").images
    missing = expunge.write_lora("canvas", run, place.folder / "lora.safetensors", rank=4, naming="diffusers")
    return {
        "unet": of_tensors(pipeline.unet.state_dict()),
        "picture": of_tensors({"picture": torch.as_tensor(picture)}),
        "lora": of_tensors(load_file(place.folder / "lora.safetensors")),
        "lora.missing": plain(float(missing)),
    }


def _evaluated(place: Place, **given: Any) -> Numbers:
    run = _run(place, **given if given["method"] in CLOSED else given | {"training": FEWER})
    cache = place.evaluate()
    expunge.evaluate(run, protocol=expunge.Protocol(seeds=1, target_seeds=1, prompts=2), device="cpu")
    listed = table("pictures", loads((run / "evaluation" / "pictures.json").read_text()), PAIR)
    return of_rows(run / "evaluation" / "rows.jsonl") | listed | of_pictures(run / "evaluation", cache)


def _informed(place: Place) -> Numbers:
    run = _run(place, "neon", "uce")
    place.evaluate()
    least = expunge.Meter(pictures=4, target_pictures=8, draws=2, others=2, maps=1, map_draws=2)
    expunge.measure_information(run, meter=least, device="cpu")
    result = loads((run / "information" / "information.json").read_text())
    return (
        of_rows(run / "information" / "rows.jsonl") | {"log_snr": plain(result["log_snr"])} | table("held", result["concepts"], INFORMATION)
    )


def _audited(place: Place, attack: str, control: str | None = "none") -> Numbers:
    run = _run(place, "neon", "uce")
    cache, out = place.evaluate(), place.folder / "audit"
    expunge.audit(run, _budget(place, attack), control=control, sampler=expunge.Sampler(6, 3.0), device="cpu", out=out)
    result = loads((out / "audit.json").read_text())
    cells = [loads(file.read_text()) for file in (out / "cells").glob("*.json")]
    # Only cells of the unlearned model, because the file of a control does not name its model.
    cells = [c for c in cells if any(r.get("unasked") for r in c["readings"])]
    for cell in cells:
        cell["readings"] = [chosen(r, READING) | {"shown": [chosen(s, EXAMPLE) for s in r["shown"]]} for r in cell["readings"]]
    found = {"failures": len(result["failures"]), **table("findings", result["findings"], FINDING), **table("cells", cells, CELL)}
    return of_rows(out / "rows.jsonl") | found | of_pictures(out, cache)


def _benched(place: Place) -> Numbers:
    """One method on one concept, evaluated and audited, from the command line."""
    place.evaluate()
    suite, out = place.folder / "suite.toml", place.folder / "bench"
    training = ", ".join(f"{key} = {value}" for key, value in FEWER.items())
    suite.write_text(
        'model = "canvas"\nseeds = [0]\nconcepts = ["ring"]\nmetrics = ["UA", "IRA"]\n'
        "protocol = {seeds = 1, target_seeds = 1, prompts = 2}\nsampler = {steps = 4, guidance_scale = 3.0}\n"
        f'[[methods]]\nname = "esd"\nsynonyms = true\ntraining = {{{training}}}\n'
        f'[audit]\nbudget = "{_budget(place, "wording")}"\ncontrol = "none"\n'
    )
    command = ["-m", "expunge", "bench", str(suite), "--out", str(out), "--device", "cpu"]
    done = subprocess.run([sys.executable, *command], cwd=place.folder, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    [result] = out.glob("runs/*/bench.json")
    measured = loads(result.read_text())
    found = table("measured", measured["rows"], ROW) | table("findings", measured["findings"], FINDING)
    return of_run(result.parent) | of_rows(out / "rows.jsonl") | found


def _budget(place: Place, attack: str) -> Path:
    """Write a budget with one attack."""
    file = place.folder / "budget.toml"
    settings = "".join(f'{k} = "{v}"\n' if isinstance(v, str) else f"{k} = {v}\n" for k, v in ATTACK.get(attack, {}).items())
    file.write_text(f'pictures = {JUDGED}\n[[attacks]]\nname = "{attack}"\n{settings}')
    return file


def _environment() -> dict[str, str]:
    """The environment of a program that uses this source, on one thread."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


# --- from files to numbers -----------------------------------------------------------------------------------------------------


def of_run(folder: Path) -> Numbers:
    """The card, the log and the weights of a run, and the weights of its stages."""
    stages = [of_tensors(load_file(file)) for file in sorted(folder.rglob(DELTA)) if file.parent != folder]
    return {
        **{f"card.{key}": value for key, value in chosen(loads((folder / "card.json").read_text()), CARD).items()},
        **(table("log", lines(folder / "log.jsonl"), LOG) if (folder / "log.jsonl").exists() else {}),
        "delta": of_tensors(load_file(folder / DELTA)),
        FILE: of_bytes([(folder / DELTA).read_bytes()]),
        **({"stages": stages} if stages else {}),
    }


def of_rows(file: Path) -> Numbers:
    return table("rows", lines(file), ROW)


def of_pictures(*folders: Path) -> Numbers:
    """All images in each folder, sorted by content, because some names contain the fingerprint."""
    found = [sorted(hashlib.sha256(file.read_bytes()).digest() for file in folder.rglob("*.png")) for folder in folders]
    return {"drawn": [len(each) for each in found], "drawn.digest": [of_bytes(each) for each in found]}


def of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """The digest of names, shapes, types and values of tensors."""

    def parts() -> Iterator[bytes]:
        for name, tensor in sorted(tensors.items()):
            yield f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode()
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return of_bytes(parts())


def of_bytes(parts: Iterable[bytes]) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return f"sha256:{state.hexdigest()}"


def lines(file: Path) -> list[dict[str, Any]]:
    return [loads(line) for line in file.read_text().splitlines()]


def chosen(given: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The values of the keys that exist."""
    return {key: plain(given[key]) for key in keys if key in given}


def table(name: str, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Numbers:
    """A column of values for each key that at least one row has."""
    return {f"{name}.{key}": [plain(row.get(key)) for row in rows] for key in keys if any(key in row for row in rows)}


def plain(value: Any) -> Any:
    """JSON with floats as exact hexadecimal texts."""
    match value:
        case float():
            return value.hex()
        case Mapping():
            return {key: plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case _:
            return value
