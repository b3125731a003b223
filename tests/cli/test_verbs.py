"""The verbs sample, eval, report, merge, ls, show and demo, and how progress is printed."""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from cli.commandline import Said, say
from PIL import Image

from expunge.cli.evaluation_table import print_evaluation
from expunge.concepts.concept import PROBES
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.metrics import METRICS, described
from expunge.evaluation.results import Row
from expunge.methods import METHODS
from expunge.methods.presets import PRESETS, read_preset
from expunge.models.scopes import SCOPES

EVALUATION = ("--steps", 1, "--guidance", 1, "--seeds", 1, "--target-seeds", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def evaluated(run: Path) -> Said:
    """`run`, measured."""
    return say("eval", run, *EVALUATION)


def flat(said: Said) -> str:
    assert said.code == 0, said.err
    return " ".join(said.out.split())


def test_an_evaluation_says_first_what_it_will_draw(run: Path, evaluated: Said):
    """What was drawn for the evaluation is there; another noise has none of it, and draws every picture with both models."""
    done, other = (flat(say("eval", run, *EVALUATION, *seed, "--dry-run")) for seed in ((), ("--seed", "7")))
    every = int(re.search(r"0 to generate, (\d+) of \1 cached", done)[1])
    assert f"{every} to generate, 0 of {every} cached" in other
    assert re.search(r"forwards (\d[\d,]*), about", other)


def test_evaluation_shows_both_models_and_is_resumable(run: Path, evaluated: Said):
    text = flat(evaluated)
    rows = [json.loads(line) for line in (run / "evaluation" / "rows.jsonl").read_text().splitlines()]
    [drift] = [r for r in rows if r["metric"] == "null_drift" and r["method"] != "none"]
    assert f"null_drift null none 0 {drift['value']:.4g} [{drift['ci_low']:.4g}, {drift['ci_high']:.4g}] {drift['n']}" in text
    assert f"next: expunge report {run}" in text
    assert say("eval", run, *EVALUATION).err == ""  # all pictures are in the store


def test_a_report_is_one_page(run: Path, evaluated: Said, tmp_path: Path):
    said = say("report", run, "--out", tmp_path / "page.html")
    assert flat(said) == f"report {tmp_path / 'page.html'}"
    assert "neon" in (tmp_path / "page.html").read_text()


def test_a_run_is_known_by_its_id_too(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert flat(say("show", "mine")).removeprefix("runs/mine") == flat(say("show", run)).removeprefix(str(run))


def test_a_sheet_of_pictures(run: Path, tmp_path: Path):
    """Two prompts, each untouched and unlearned, 3 pictures of 32 pixels, enlarged 4 times to 128; 6 between, 18 for the text."""
    said = say(
        "sample",
        run,
        "--prompt",
        "a ring",
        "--prompt",
        "neon style",
        "--seeds",
        3,
        "--steps",
        1,
        "--out",
        tmp_path / "s.png",
        "--device",
        "cpu",
    )
    assert flat(said) == f"images {tmp_path / 's.png'}"
    sheet = Image.open(tmp_path / "s.png")
    assert sheet.size == (6 + 3 * (128 + 6), 6 + 4 * (18 + 128 + 6))


def test_both_rows_start_from_the_same_noise(run: Path, model: Path, tmp_path: Path):
    """The upper row of a run's sheet is what the untouched model draws alone, and the lower one differs from it."""
    shared = ("--prompt", "neon style", "--seeds", 2, "--seed", 5, "--steps", 2, "--device", "cpu", "--out")
    assert say("sample", run, *shared, tmp_path / "both.png").code == 0
    assert say("sample", "--model", model, *shared, tmp_path / "alone.png").code == 0
    both, alone = Image.open(tmp_path / "both.png"), Image.open(tmp_path / "alone.png")
    rows = [both.crop((0, top, both.width, top + 128)) for top in (24, 24 + 152)]
    assert rows[0].tobytes() == alone.crop((0, 24, alone.width, 152)).tobytes()
    assert rows[1].tobytes() != rows[0].tobytes()


def test_a_run_is_looked_at_in_its_own_precision(unlearn: Callable[..., Said], tmp_path: Path):
    """A model read in another one has other weights, to which the delta would not belong."""
    assert unlearn("--target", "neon", "--dtype", "bf16", "--out", tmp_path / "r", method="uce").code == 0
    shared = ("--seeds", 1, "--steps", 1, "--device", "cpu")
    assert say("sample", tmp_path / "r", "--prompt", "neon style", *shared, "--out", tmp_path / "s.png").code == 0
    assert say("merge", tmp_path / "r", tmp_path / "merged").code == 0


def test_numbers_are_shown_with_their_interval(capsys: pytest.CaptureFixture):
    """What both models share is one line; a distance of rounding errors is 0; a number without an interval stands alone."""
    named = {"concept": "neon", "seed": 0, "probe": "target"}
    print_evaluation(
        [
            Row(run="base", method="none", metric="KID", value=1e-12, ci_low=-2e-12, ci_high=2e-12, n=9, **named),
            Row(run="r", method="uce", metric="KID", value=0.0123456, ci_low=0.01, ci_high=0.02, n=9, **named),
            Row(run="r", method="uce", metric="weight_change", value=0.5, ci_low=0.5, ci_high=0.5, n=1, judge="none", **named),
        ]
    )
    _, _, _, first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.split() == ["KID", "target", "main", "0", "[0,", "0]", "0.01235", "[0.01,", "0.02]", "9"]
    assert second.split() == ["weight_change", "target", "none", "0.5", "1"]


def test_merge_writes_a_folder(run: Path, tmp_path: Path):
    said = say("merge", run, tmp_path / "merged", "--dtype", "fp32")
    assert flat(said) == f"model {tmp_path / 'merged'}"
    assert (tmp_path / "merged" / "model_index.json").exists()
    assert "fp16" in say("merge", run, tmp_path / "other", "--dtype", "fp8").error


def test_merge_writes_a_lora_and_says_what_it_lacks(run: Path, tmp_path: Path):
    said = flat(say("merge", run, "--lora", tmp_path / "out.safetensors", "--rank", "1"))
    assert said.startswith(f"lora {tmp_path / 'out.safetensors'} rank 1 missing ")
    assert said.endswith("% of the change's norm")
    assert (tmp_path / "out.safetensors").exists()
    for arguments, rule, value in (
        ((), "folder-or-lora", []),
        ((tmp_path / "f", "--lora", "x.safetensors"), "folder-or-lora", [str(tmp_path / "f"), "x.safetensors"]),
        ((tmp_path / "f", "--rank", "2"), "rank-without-lora", 2),
        ((tmp_path / "f", "--naming", "kohya"), "naming-without-lora", "kohya"),
    ):
        refusal = say("merge", run, *arguments).refusal
        assert (refusal.rule, refusal.value) == (rule, value)
        assert "--lora FILE.safetensors" in refusal.hint


def test_lists_name_everything():
    assert all(f" {name} " in f" {flat(say('ls', 'methods'))} " for name in METHODS)
    metrics = flat(say("ls", "metrics"))
    assert all(f" {name} {m.about.better} " in f" {metrics} " for name, m in METRICS.items())
    assert all(f" {name} " in f" {flat(say('ls', 'scopes'))} " for name in SCOPES)
    assert f"xattn-lora {SCOPES['xattn-lora'].title} 4" in flat(say("ls", "scopes"))
    assert f"{SCOPES['xattn-lora'].title}, of rank 4" in flat(say("show", "xattn-lora"))
    assert " second " in flat(say("ls", "judges"))
    concepts = say("ls", "concepts").out
    for kind in Vocabulary.canvas().kinds.values():
        for member in kind.members:
            [line] = [text.split() for text in concepts.splitlines() if text.split()[2:3] == [member.name]]
            assert line == [kind.name, member.family, member.name, *member.synonyms]


def test_the_concepts_of_a_model_or_file(words: Path):
    assert "Van Gogh" in say("ls", "concepts", "--model", "someone/else").out
    assert "Van Gogh" in say("ls", "concepts", "--vocabulary", "general").out
    listed = say("ls", "concepts", "--vocabulary", words).out
    assert "dots" in listed
    assert "mosaic" not in listed


def test_runs_are_listed(run: Path, evaluated: Said, tmp_path: Path):
    assert "no runs under" in say("ls", "runs", "--runs", tmp_path).out
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "card.json").write_text("{")
    (tmp_path / "mine").symlink_to(run)
    text = flat(say("ls", "runs", "--runs", tmp_path))
    change = json.loads((run / "card.json").read_text())["relative_change"]
    assert f"{tmp_path / 'mine'} mim-mu neon done {change:.2%}" in text
    assert f"{tmp_path / 'cut'} unreadable" in text


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_shown_with_its_settings(name: str):
    text = flat(say("show", name))
    assert "Source: arXiv" in text or "Source: OpenReview" in text
    assert all(f"--{field.replace('_', '-')}" in text for field in [f.name for f in fields(METHODS[name])])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_shown_with_its_settings(name: str):
    tables = read_preset(name)
    text = flat(say("show", name))
    assert tables["about"] in text
    assert f"expunge unlearn --config {name} --target WORDS" in text
    for layer in (*tables.get("before", ()), tables):
        for table in ("method", "training"):
            assert all(f"{table} {key} {value} " in text for key, value in layer.get(table, {}).items() if key != "name")


def test_every_listed_metric_is_shown():
    listed = [line.split()[0] for line in say("ls", "metrics").out.splitlines()[3:] if line.strip() and not line.startswith(" ")]
    assert set(listed) == set(described())
    for name in listed:
        assert flat(say("show", name)).startswith(f"{name}: ")


def test_everything_that_has_a_name_is_shown(run: Path, words: Path):
    assert flat(say("show", "ua")).startswith("UA: ")
    assert SCOPES["xattn-kv"].title in say("show", "xattn-kv").out
    assert "--checkpoint-every" in say("show", "training").out
    assert "target_seeds" in say("show", "protocol").out
    assert "guidance_scale" in say("show", "sampler").out
    assert json.loads((run / "card.json").read_text())["id"] in say("show", run).out
    concept = flat(say("show", "neon style"))
    assert "synonyms glow" in concept
    assert "siblings outline, sketch, blueprint" in concept
    assert all(text in concept for text in PROBES.values())
    assert "the kind style" in say("show", "Van Gogh").out
    assert "siblings none" in flat(say("show", "dots", "--vocabulary", words))


def test_the_example_of_a_vocabulary_is_one(tmp_path: Path):
    text = say("show", "vocabulary").out
    file = tmp_path / "mine.toml"
    file.write_text(text[text.index("[style]") :])
    assert {"Van Gogh", "Gustav Klimt", "sailboat"} <= set(Vocabulary.load(file).names)


# --- demo -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def canvas(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small pipeline in the place of the embedded one."""
    import expunge.canvas

    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "pipeline").symlink_to(model)
    monkeypatch.setattr(expunge.canvas, "WEIGHTS", tmp_path / "weights")


def test_the_demo_takes_every_step(canvas: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All but the judging, which would need the embedded model's pictures."""
    from expunge.evaluation import protocol as render

    asked = {}

    def record(run, model, protocol, render_batch) -> list:
        asked.update(run=run, protocol=protocol)
        return []

    monkeypatch.setattr("expunge.evaluation.evaluate.evaluate", record)
    said = say("demo", "--out", tmp_path / "demo", "--target", "a disc", "--method", "uce", "--device", "cpu")
    text = flat(said)
    assert "removing the object disc / coin from the embedded model with uce" in text
    assert f"report {tmp_path / 'demo' / 'report.html'}" in text
    assert "took unlearning" in text
    assert "evaluation" in text
    assert asked["run"].card["concept"] == {"target": "disc", "kind": "object", "synonyms": ["coin"], "vocabulary": "canvas"}
    assert asked["protocol"] == render.Protocol(seeds=1, target_seeds=5)
    assert (tmp_path / "demo" / "report.html").exists()
