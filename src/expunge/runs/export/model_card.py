"""The model card, `README.md`, in the form that the Hugging Face hub reads, with the numbers that were measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard import metadata_load

from expunge.models.reference import hub_id
from expunge.runs.export.provenance import short_name
from expunge.runs.folder import Card
from expunge.runs.run import Run
from expunge.storage.files import write_atomically
from expunge.storage.json_files import as_number, as_table, find_file, read_lines

USE = {
    "folder": """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{place}")""",
    "lora": """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{base}")
pipeline.load_lora_weights("{place}", weight_name="{file}")""",
}
"""How a result of each kind is used."""


def write_card(run: Run, folder: Path, kind: str = "folder", place: str = "FOLDER", file: str = "", source: Path | None = None) -> None:
    """Writes `README.md` into a folder.

    Args:
        kind: of the result: "folder" or "lora".
        place: what a reader loads it from: a hub id.
        file: the name of a LoRA's file.
        source: the base model's folder. The licence that its own card names is passed on.
    """
    rows = measured(run)
    text = "\n\n".join((f"---\n{_metadata(run, rows, kind, source)}\n---", *_body(run, rows, kind, place, file))) + "\n"
    write_atomically(folder / "README.md", text.encode())


def measured(run: Run) -> list[Mapping[str, Any]]:
    """The rows of the run's evaluation, as `evaluation/rows.jsonl` has them; none if it was not evaluated.

    Raises:
        ExpungeError: the file is broken.
    """
    file = find_file(run.folder, "evaluation/rows.jsonl")
    return [row for row in read_lines(file) if as_number(row.get("value")) is not None] if file else []


def _metadata(run: Run, rows: Sequence[Mapping[str, Any]], kind: str, source: Path | None) -> str:
    base = hub_id(run.card.model)
    own = [row for row in rows if row.get("run") == run.id]
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="expunge",
            dataset_name=f"prompts of {row.get('concept')}: {row.get('probe')}",
            metric_type=str(row.get("metric")),
            metric_value=round(float(row["value"]), 4),
            metric_args={"judge": row.get("judge"), "interval": [row.get("ci_low"), row.get("ci_high")], "images": row.get("n")},
        )
        for row in own
    ]
    made = ModelCardData(
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["expunge", "concept-erasure", "machine-unlearning", *(["lora"] if kind == "lora" else [])],
        model_name=_title(run),
        eval_results=results or None,
        base_model=base,
        **(_licence(source) | ({"base_model_relation": "adapter" if kind == "lora" else "finetune"} if base else {})),
    )
    return made.to_yaml()


def _licence(source: Path | None) -> dict[str, Any]:
    card = source / "README.md" if source else None
    found = metadata_load(card) if card and card.is_file() else None
    return {key: found[key] for key in ("license", "license_name", "license_link") if key in found} if isinstance(found, dict) else {}


def _title(run: Run) -> str:
    return f"{short_name(run)} without {run.card.target}"


def _body(run: Run, rows: Sequence[Mapping[str, Any]], kind: str, place: str, file: str) -> list[str]:
    card = run.card
    changed = f"{card.trainable:,.0f} of {card.total:,.0f} parameters of its network" if card.trainable and card.total else "its network"
    what = "This adapter changes" if kind == "lora" else "This model differs from its base model in"
    return [
        f"# {_title(run)}",
        f"The concept **{card.target}** was removed from `{short_name(run)}` by {card.method} "
        f"(expunge {card.versions.get('expunge', '')}). {what} {changed}. All other parts are those of the base model.",
        "## Use",
        f"```python\n{USE[kind].format(place=place, base=short_name(run), file=file)}\n```",
        "## Measured",
        *_table(run, rows),
        "Without an attack. What was removed can come back by fine-tuning, by a search for words, or from a description that does not "
        "name it.",
        "## Origin",
        f"Run `{card.id}` of {card.date}, base model fingerprint `{card.fingerprint}`{_digest(card)}. "
        "The header of the weights, or `expunge.json`, has the settings and SHA-256 digests.",
    ]


def _digest(card: Card) -> str:
    """The SHA-256 of the run's changed weights; empty for cards of older versions."""
    found = as_table(card.get("sha256")).get("delta.safetensors")
    return f", SHA-256 of the changed weights `{found}`" if found else ""


def _table(run: Run, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    base = {_key(row): row for row in rows if row.get("run") == "base"}
    own = [row for row in rows if row.get("run") == run.id]
    if not own:
        return ["Nothing was measured before this card was written."]
    lines = ["| concept | metric | prompts | judge | base model | this model | images |", "|---|---|---|---|---|---|---|"]
    for row in own:
        before = base.get(_key(row))
        cells = [*_key(row), _number(before) if before else "", _number(row), row.get("n", "")]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return ["\n".join(lines), "Brackets are 95 % intervals."]


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in ("concept", "metric", "probe", "judge"))


def _number(row: Mapping[str, Any]) -> str:
    low, high = as_number(row.get("ci_low")), as_number(row.get("ci_high"))
    return f"{row['value']:.3g}" + (f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None and low != high else "")
