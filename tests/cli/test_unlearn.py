"""`expunge unlearn`: options, configurations, what a run costs and which files it writes."""

import json
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from cli.commandline import Said, say, unpriced

from expunge.models.scopes import SCOPES
from expunge.progress import Progress

Unlearn = Callable[..., Said]


def card(folder: Path) -> dict:
    return json.loads((folder / "card.json").read_text())


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_run_says_where_it_is_and_what_comes_next(unlearn: Unlearn, run: Path):
    said = unlearn("--target", "neon", "--out", run)  # done already: told again at once
    assert said.code == 0
    assert f"run     {run}" in said.out
    assert f"change  {card(run)['relative_change']:.3%} of the xattn weights' norm" in said.out
    assert f"next: expunge eval {run}" in said.out


def test_flags_reach_the_run(unlearn: Unlearn, tmp_path: Path):
    said = unlearn(
        "--target", "neon", "--target", "glow", "--seed", 3, "--eta", 0.5, "--target-as", "context",
        "--lr", "1e-3", "--gradient-checkpointing", "--out", tmp_path / "r",
    )  # fmt: skip
    assert said.code == 0, said.err
    made = card(tmp_path / "r")
    assert (made["concept"]["target"], made["concept"]["synonyms"]) == ("neon", ["glow"])
    assert (made["seed"], made["config"]["eta"], made["config"]["target_as"]) == (3, 0.5, "context")
    assert made["training"] | {"lr": 1e-3, "gradient_checkpointing": True, "steps": 2, "batch_size": 4} == made["training"]


def test_trackers_are_named_by_an_option(unlearn: Unlearn, run: Path, tmp_path: Path):
    said = unlearn("--target", "neon style", "--track", "tensorboard", "--out", tmp_path / "r")
    assert (said.code, card(tmp_path / "r")["id"]) == (0, card(run)["id"]), said.err
    assert list((tmp_path / "r" / "tensorboard" / "expunge").glob("events.*"))
    assert unlearn("--target", "neon style", "--track", "wand", "--dry-run").refusal.rule == "unknown-tracker"


def test_progress_is_shown_in_lines_without_a_terminal(unlearn: Unlearn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Progress, "default", classmethod(lambda cls: Progress(delay=0.0)))
    said = unlearn("--target", "dots", "--seed", 9, "--out", tmp_path / "r")
    images, steps = said.err.splitlines()
    assert " of the concept: 2 of 2, in " in images
    assert steps.startswith("steps: 2 of 2, in ")
    assert ", loss " in steps


def test_a_configuration_repeats_a_run(unlearn: Unlearn, run: Path, tmp_path: Path):
    """Without a word more, the same id and the same bytes."""
    said = say("unlearn", "--config", run / "config.toml", "--out", tmp_path / "again")
    assert said.code == 0, said.err
    assert card(tmp_path / "again")["id"] == card(run)["id"]
    assert (tmp_path / "again" / "delta.safetensors").read_bytes() == (run / "delta.safetensors").read_bytes()
    assert (tmp_path / "again" / "config.toml").read_bytes() == (run / "config.toml").read_bytes()


@pytest.fixture
def without_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    unpriced(monkeypatch)


def identity(said: Said) -> str:
    """The run that a dry run announces."""
    assert said.code == 0, said.err
    return said.out.split()[0]


@pytest.mark.usefixtures("without_prices")
def test_flags_go_before_the_configuration(unlearn: Unlearn, run: Path):
    """The same as if all had been given as flags."""
    for more in ((), ("--seed", 5, "--synonym", "glow"), ("--eta", 0.25, "--steps", 3), ("--target", "dots")):
        by_flags = identity(unlearn(*(("--target", "neon") if "--target" not in more else ()), *more, "--dry-run"))
        assert identity(say("unlearn", f"--config={run / 'config.toml'}", *more, "--dry-run")) == by_flags


@pytest.mark.usefixtures("without_prices")
def test_another_method_takes_the_concept_but_none_of_the_settings(unlearn: Unlearn, run: Path):
    by_flags = identity(unlearn("--target", "neon", "--dry-run", method="uce"))
    assert identity(say("unlearn", "uce", "--config", run / "config.toml", "--dry-run")) == by_flags


@pytest.mark.usefixtures("without_prices")
def test_an_anchor_is_kept_where_one_is_read_and_refused_elsewhere(unlearn: Unlearn):
    """Otherwise a user would believe that it had an effect."""
    assert unlearn("--target", "neon", "--anchor", "dots", "--dry-run", method="uce").code == 0
    assert unlearn("--target", "neon", "--anchor", "dots", "--dry-run", method="spm").code == 0
    for method, *flags in (("mim-mu",), ("spm", "--surrogate", "null")):
        refusal = unlearn("--target", "neon", "--anchor", "dots", *flags, "--dry-run", method=method).refusal
        assert (refusal.rule, refusal.value) == ("unused-anchor", "dots")


def test_another_target_takes_none_of_the_old_ones_words(unlearn: Unlearn, tmp_path: Path):
    assert unlearn("--target", "neon", "--synonym", "glow", "--anchor", "outline", "--out", tmp_path / "r", method="uce").code == 0
    said = say("unlearn", "--config", tmp_path / "r" / "config.toml", "--target", "dots", "--out", tmp_path / "s")
    assert said.code == 0, said.err
    assert card(tmp_path / "s")["concept"] | {"target": "dots", "synonyms": []} == card(tmp_path / "s")["concept"]
    assert "anchor" not in card(tmp_path / "s")["concept"]


def test_a_configuration_written_by_hand(model: Path, words: Path, tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(f'[model]\nname = "{model}"\n[concept]\ntarget = "ring"\nvocabulary = "canvas"\n[method]\nname = "uce"\nridge = 2\n')
    said = say("unlearn", "--config", file, "--out", tmp_path / "r")
    assert said.code == 0, said.err
    assert (card(tmp_path / "r")["config"]["ridge"], card(tmp_path / "r")["concept"]["kind"]) == (2.0, "object")
    assert tomllib.loads((tmp_path / "r" / "config.toml").read_text())["concept"]["vocabulary"] == "canvas"


def test_further_targets_are_other_names_of_the_first(unlearn: Unlearn, tmp_path: Path):
    assert unlearn("--target", "glow style", "--target", "neon", "--out", tmp_path / "r", method="uce").code == 0
    assert (card(tmp_path / "r")["concept"]["target"], card(tmp_path / "r")["concept"]["synonyms"]) == ("glow", ["neon"])


def test_a_dry_run_tells_everything_and_writes_nothing(unlearn: Unlearn, tmp_path: Path):
    cache = Path(os.environ["EXPUNGE_CACHE"])
    before = files(cache)
    said = unlearn("--target", "neon", "--seed", 77, "--track", "tensorboard", "--out", tmp_path / "r", "--dry-run")
    assert said.code == 0, said.err
    # What is known of the model's files and of the device may be kept, and nothing that a run makes.
    assert {file.relative_to(cache).parts[0] for file in files(cache) - before} <= {"fingerprints", "outlines", "speeds"}
    assert not (tmp_path / "r").exists()
    text = " ".join(said.out.split())
    assert "needs marginal: each forget prompt with another concept of the same domain in the concept's place" in text
    assert "needs reference: the base model's noise predictions" in text
    assert "scope xattn: 20 tensors, 19.2% of the network" in text
    assert "to forget 3 prompts: a ring in neon style; a square in neon style; neon style" in text
    # 2 pictures x 4 steps x 2 for guidance; 8 places of a bank of 6 are visited, so each of them once, under the marginal and,
    # to push away from it, under the concept's prompt; 2 steps of 4, each under the concept's prompt and the one it is locked to.
    assert "images of the concept: to generate 16 0" in text
    assert "reference: each point and prompt once 12 0" in text
    assert "student: 2 steps of 8 16 16" in text
    assert "total 44 16" in text


def test_a_dry_run_of_low_rank_counts_what_is_trained(unlearn: Unlearn):
    """A matrix of shape [out, in] gets two factors: 4 (in + out) numbers."""
    said = " ".join(unlearn("--target", "neon", "--variant", "xattn-lora", "--dry-run").out.split())
    matrices = tiny.model().scope(SCOPES["xattn-lora"]).values()
    numbers = sum(4 * (p.shape[0] + p.shape[1]) for p in matrices)
    assert f"scope xattn-lora: {numbers:,} numbers, rank 4, added to {len(matrices)} tensors" in said
    assert re.search(r"with --quantize nf4 \d+ MiB", said)
    assert "nf4" not in unlearn("--target", "neon", "--variant", "xattn", "--dry-run").out  # which trains what would be stored so


def test_a_dry_run_says_what_is_in_the_store(unlearn: Unlearn, run: Path):
    assert "images of the concept: in the cache 0 0" in " ".join(unlearn("--target", "neon", "--dry-run").out.split())


def test_a_dry_run_of_a_closed_form(unlearn: Unlearn):
    text = " ".join(unlearn("--target", "neon", "--dry-run", method="uce").out.split())
    assert "to retain" in text
    assert "A closed form takes no forward and no backward passes." in text


def test_the_merged_folder_is_written_afterwards(unlearn: Unlearn, tmp_path: Path):
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    said = unlearn("--target", "neon", "--out", tmp_path / "r", "--merge", tmp_path / "merged", method="uce")
    assert said.code == 0, said.err
    assert f"model   {tmp_path / 'merged'}" in said.out
    weights = dict(StableDiffusionPipeline.from_pretrained(tmp_path / "merged").unet.named_parameters())
    for name, value in load_file(tmp_path / "r" / "delta.safetensors").items():
        assert weights[name].equal(value)


def test_an_interruption_says_how_to_go_on(unlearn: Unlearn, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C after the first step; then the same command ends where the undisturbed run did."""
    from expunge.training.loop import Trainer

    untouched = Trainer.fit

    def interrupted(self):
        yield next(untouched(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", interrupted)
    arguments = ("--target", "neon", "--checkpoint-every", 1, "--out", tmp_path / "r")
    said = unlearn(*arguments)
    assert (said.code, said.err.splitlines()[-1]) == (130, "Interrupted. The same command continues from what is finished.")
    assert (tmp_path / "r" / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    said = unlearn(*arguments)
    assert said.code == 0
    assert (tmp_path / "r" / "delta.safetensors").read_bytes() == (run / "delta.safetensors").read_bytes()


@pytest.mark.usefixtures("without_prices")
@pytest.mark.parametrize("method", ["mim-mu", "uce"])
def test_a_dry_run_lists_the_prompts_that_are_trained_on(method: str):
    said = say("unlearn", method, "--target", "neon", "--synonym", "glow", "--prompts", "bare", "--device", "cpu", "--dry-run")
    assert said.code == 0, said.err
    listed = next(line for line in said.out.splitlines() if "to forget" in line)
    assert "2 prompts: neon style; glow style" in listed
