"""A run folder as `expunge unlearn` and `expunge eval` leave it, with images that need no model."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

RETAINED = "siblings+same_domain+cross_domain"
OBJECTS = ("ring", "disc", "crescent", "horseshoe", "square", "hexagon", "lily", "cross")

Paint = Callable[[str | None, str | None, int], Image.Image]


def paint(obj: str | None, style: str | None, seed: int) -> Image.Image:
    """A stand-in picture: a shape whose colour and size follow from what is asked for."""
    picture = Image.new("RGB", (64, 64), (235, 230 - seed % 40, 220))
    hue = sum(map(ord, f"{obj}{style}")) % 200
    ImageDraw.Draw(picture).ellipse((12, 12, 50, 50), fill=(hue, 90, 220 - hue))
    return picture


def row(metric: str, value: float, low: float, high: float, probe: str, run: str = "r1", **more: Any) -> dict[str, Any]:
    method = "none" if run == "base" else "mim-mu"
    entry = {"run": run, "method": method, "concept": "neon", "seed": 0, "probe": probe, "metric": metric, "value": value}
    return entry | {"ci_low": low, "ci_high": high, "n": 180, "attack": "none", "judge": "main"} | more


def rows(run: str = "r1", ua: float = 0.9889) -> list[dict[str, Any]]:
    made = [
        ("UA", ua, max(0.0, ua - 0.03), min(1.0, ua + 0.008), "target", 0.0222, 0.0087, 0.0558),
        ("UA_syn", 0.7611, 0.6937, 0.8175, "synonyms", 0.0278, 0.0119, 0.0633),
        ("NRA", 0.8722, 0.8156, 0.9133, "siblings", 0.9722, 0.9367, 0.9881),
        ("IRA", 0.9389, 0.8938, 0.9655, "siblings+same_domain", 0.9667, 0.9292, 0.9846),
        ("ORA", 0.9611, 0.9221, 0.981, "same_domain+cross_domain", 0.9778, 0.9442, 0.9913),
        ("CRA", 0.9722, 0.9367, 0.9881, "target+siblings+same_domain", 0.9667, 0.9292, 0.9846),
        ("FID_base", 3.118, 2.61, 3.63, RETAINED, 0.0, 0.0, 0.0),
        ("FID_drawn", 14.27, 12.9, 16.1, RETAINED, 9.413, 8.6, 10.4),
        ("KID_drawn", 0.00412, 0.0021, 0.0063, RETAINED, 0.00113, -0.0002, 0.0025),
    ]
    found = [row(m, v, lo, hi, p, run) for m, v, lo, hi, p, *_ in made] + [row(m, b, lo, hi, p, "base") for m, *_, p, b, lo, hi in made]
    found += [row("null_drift", 0.0124, 0.0112, 0.0136, "null", run, judge="none", n=32)]
    found += [row("null_drift", 0.0, 0.0, 0.0, "null", "base", judge="none", n=32)]
    found += [row("UA", ua - 0.01, ua - 0.04, min(1.0, ua + 0.005), "target", run, judge="second")]
    found += [row("UA", 0.03, 0.014, 0.064, "target", "base", judge="second"), row("NRA", 0.75, 0.69, 0.8, "siblings", run, judge="second")]
    return [*found, row("UA", 0.4111, 0.3417, 0.4842, "target", run, attack="relearn")]


def prompts(target: str = "neon", synonym: str = "glow") -> list[tuple[str, str, str | None, str | None]]:
    """(probe, prompt, object, style) of every picture."""
    near, far = ("outline", "sketch"), ("dots", "mosaic", "stripes")
    found = [("target", f"a {o} in {target} style", o, target) for o in OBJECTS]
    found += [("synonyms", f"a {o} in {synonym} style", o, target) for o in OBJECTS]
    found += [("siblings", f"a {o} in {s} style", o, s) for s in near for o in OBJECTS]
    found += [("same_domain", f"a {o} in {s} style", o, s) for s in far for o in OBJECTS[:4]]
    return [*found, *(("cross_domain", f"a {o}", o, None) for o in OBJECTS), ("null", "", None, None)]


def make_run(
    folder: Path,
    card: Mapping[str, Any] | None = None,
    measured: list[dict[str, Any]] | None = None,
    pictures: list[tuple[str, str, str | None, str | None]] | None = None,
    draw: Paint = paint,
    steps: int = 12,
    evaluated: bool = True,
) -> Path:
    """Writes one run folder; `card` is laid over a full card. By default every eighth of `prompts()`, enough for most tests."""
    folder.mkdir(parents=True, exist_ok=True)
    full: dict[str, Any] = {
        "id": "r1", "status": "done", "method": "mim-mu", "scope": "xattn", "config": {"eta": 0.25, "context": True},
        "training": {"steps": steps, "lr": 0.0003, "batch_size": 16},
        "concept": {"target": "neon", "kind": "style", "synonyms": [], "anchor": None},
        "model": {"name": "canvas", "fingerprint": "sha256:9f2c41d07a", "family": "stable_diffusion"},
        "seed": 0, "versions": {"expunge": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.0"}, "device": "cpu", "dtype": "float32",
        "date": "2026-11-28", "seconds": 71.4, "peak_memory_bytes": 812_000_000, "trainable": 98_304, "total": 3_411_203,
        "forwards": 2240, "backwards": steps, "relative_change": 0.00831,
    }  # fmt: skip
    full |= card or {}
    (folder / "card.json").write_text(json.dumps(full))
    (folder / "config.toml").write_text('target = "neon"\n\n[method]\nname = "mim-mu"\neta = 0.25\n\n[training]\nsteps = 120\nlr = 3e-4\n')
    lines = [
        {"step": i + 1, "loss": _loss(i), "terms": {"forget": 0.8 * _loss(i), "null": 0.2 * _loss(i)}, "grad_norm": 1.0}
        for i in range(steps)
    ]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if evaluated:
        _evaluate(
            folder / "evaluation",
            rows(str(full["id"])) if measured is None else measured,
            prompts()[::8] if pictures is None else pictures,
            draw,
        )
    return folder


def _loss(step: int) -> float:
    return 0.9 * math.exp(-step / 30) + 0.02 + 0.012 * math.sin(step * step)


def _evaluate(folder: Path, measured: list[dict[str, Any]], pictures: list[tuple[str, str, str | None, str | None]], draw: Paint) -> None:
    (folder / "pictures").mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in measured))
    listed = []
    for seed, (probe, prompt, obj, style) in enumerate(pictures):
        forgotten = probe == "target" or (probe == "synonyms" and seed % 4)
        hurt = probe == "siblings" and seed % 6 == 2
        shown = None if forgotten else style
        wanted = {k: v for k, v in (("style", style), ("object", obj)) if v}
        seen = {k: v for k, v in (("style", shown or "plain"), ("object", "disc" if hurt else obj)) if k in wanted and v}
        draw(obj, style, seed).save(folder / "pictures" / f"{seed}-base.png")
        draw("disc" if hurt else obj, shown, seed).save(folder / "pictures" / f"{seed}-run.png")
        entry = {"probe": probe, "prompt": prompt, "seed": 0, "wanted": wanted, "seen_base": wanted, "seen": seen}
        listed.append(entry | {"base": f"pictures/{seed}-base.png", "unlearned": f"pictures/{seed}-run.png"})
    (folder / "pictures.json").write_text(json.dumps(listed))
    about = {
        "judge": "canvas main judge",
        "sampler": {"name": "DDIM", "steps": 20, "guidance_scale": 3.0},
        "seconds": 140.2,
        "protocol": {"seeds": 1},
    }
    (folder / "evaluation.json").write_text(json.dumps(about | {"notes": ["The base model generates a plain shape for the empty prompt."]}))
