"""What bad input gets: exit code 2, one line that names the rule, the value and the next step, and nothing half-written."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from cli.commandline import Said, say

Unlearn = Callable[..., Said]


def written(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


# --- names and words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["unlern"], ["'unlern' is none (nearest: 'unlearn')", "expunge --help"]),
        (["unlearn", "mim-nu", "--target", "neon"], ["'mim-nu' is none (nearest: 'mim-mu')"]),
        (["unlearn", "--target", "neon"], ["a method is named", "expunge ls methods"]),
        (["unlearn", "nowhere.at:All"], ["nowhere.at:All", "check the name"]),
        (["unlearn", "pathlib:Path"], ["derived from Objective or Edit", "pathlib:Path"]),
        (["unlearn", "mim-mu", "--targt-as", "null"], ["--targt-as", "--target-as", "expunge unlearn mim-mu --help"]),
        (["unlearn", "mim-mu", "--steps"], ["--steps", "argument"]),
        (["unlearn", "mim-mu", "--seed", "one"], ["--seed", "'one'"]),
        (["unlearn", "mim-mu"], ["no --target", "expunge ls concepts"]),
        (["unlearn", "uce", "--target", "neon", "--steps", "3"], ["--steps", "expunge unlearn uce --help"]),
        (["ls"], ["methods|presets|attacks|metrics|concepts"]),
        (["ls", "method"], ["'method' is none (nearest: 'methods')"]),
        (["ls", "concepts", "--vocabulary", "/nowhere.toml"], ["/nowhere.toml", "expunge show vocabulary"]),
        (["show", "mim-muu"], ["'mim-muu' (nearest: 'mim-mu')", "expunge ls"]),
        (["show", "neom"], ["'neom' (nearest: 'neon')"]),
        (["sample", "--prompt", " "], ["a prompt has words: ' '", "for example"]),
        (["sample", "--prompt", ""], ["a prompt has words: ''"]),
        (["sample"], ["--prompt"]),
        (["sample", "--prompt", "a ring", "--seeds", "0"], ["--seeds", "'0'"]),
        (["report"], ["RUN"]),
        (["report", "/nowhere"], ["/nowhere"]),
        (["eval", "/nowhere"], ["/nowhere", "expunge unlearn"]),
        (["merge", "/nowhere", "/tmp/never"], ["/nowhere", "expunge unlearn"]),
        (["demo", "--target", "neom"], ["'neom'", "nearest: 'neon'"]),
        (["demo", "--method", "uec"], ["'uec' is none (nearest: 'uce')"]),
    ],
    ids=" ".join,
)
def test_wrong_names(arguments: list[str], parts: list[str]):
    line = say(*arguments).error
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--target", "neom"], ["'neom'", "nearest: 'neon'", "--kind style|object"]),
        (["--target", " \t"], ["a target has words"]),
        (["--target", ""], ["a target has words"]),
        (["--target", "neon", "--synonym", " "], ["a synonym has words"]),
        (["--target", "neon", "--anchor", ""], ["anchor has words"]),
        (["--target", "neon", "--kind", "stile"], ["'stile' is none (nearest: 'style')"]),
        (["--target", "neon", "--target", "dots", "--target", "glow"], ["removed once", "'neon' and 'glow'", "synonym"]),
        (["--target", "neon", "--synonym", "zoo"], ["the tokenizer does not know", "'a ring in zoo style'"]),
        (["--target", "neon", "--synonym", "ring " * 20], ["reads 12", "a shorter prompt"]),
        (["--target", "neon", "--device", "abacus"], ["no device 'abacus'", "--device cpu"]),
        (["--target", "neon", "--dtype", "fp33"], ["fp32, bf16, fp16", "'fp33'"]),
        (["--target", "neon", "--model", "/nowhere"], ["'/nowhere' is not", "another path"]),
        (["--target", "neon", "--config", "/nowhere.toml"], ["/nowhere.toml", "config.toml"]),
        (["--target", "neon", "--steps", "0"], ["steps", "greater than or equal to 1", "'0'", "expunge show training"]),
        (["--target", "neon", "--steps", "1.5"], ["steps", "integer", "'1.5'"]),
        (["--target", "neon", "--lr", "-1e-3"], ["lr", "greater than 0", "'-1e-3'"]),
        (["--target", "neon", "--lr", "nan"], ["lr", "nan"]),
        (["--target", "neon", "--lr", "inf"], ["a setting is finite: lr = inf"]),
        (["--target", "neon", "--eta", "-1"], ["eta", "greater than or equal to 0", "'-1'", "expunge show mim-mu"]),
        (["--target", "neon", "--eta", "nan"], ["eta", "nan"]),
        (["--target", "neon", "--eta", "inf"], ["a setting is finite: eta = inf"]),
        (["--target", "neon", "--target-as", "marginl"], ["target_as", "'marginl'"]),
        (["--target", "neon", "--batch-size", "5", "--accumulate", "2"], ["batch_size 5 is no multiple of accumulate 2", "divisor"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_values(unlearn: Unlearn, tmp_path: Path, arguments: list[str], parts: list[str]):
    line = unlearn(*arguments, "--out", tmp_path / "r").error
    for part in parts:
        assert part in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[metod]\nname = 'uce'", ["'metod' (nearest: 'method')"]),
        ("[method]\nridge = 1", ["[method] has a name"]),
        ("[method]\nname = 'uce'\nrigde = 1", ["'rigde' is none (nearest: 'ridge')"]),
        ("[method]\nname = 'esd'\n[training]\nstep = 1", ["'step' is none (nearest: 'steps')"]),
        ("[method]\nname = 'esd'\n[training]\nlr = nan", ["a setting is finite: lr = nan"]),
        ("[method]\nname = 'uce'\n[training]\nsteps = 3", ["a closed form is not trained", "leave [training] out"]),
        ("[method]\nname = 'uce'\n[concept]\ntargets = 'neon'", ["a list of tables, targets: it has 'neon'"]),
        ("[method]\nname = 'uce'\n[concept]\ntargett = 'neon'", ["'targett' (nearest: 'target')"]),
        ("[method]\nname = 'uce'\n[concept]\nkind = 'style'", ["no --target"]),
        (
            "[method]\nname = 'uce'\n[concept]\ntarget = 'neon'\n[concept.vocabulary.style]\nalone = 'x'",
            ["[concept.vocabulary]", "expunge show vocabulary"],
        ),
        ("[method]\nname = 'uce'\n[concept]\ntarget = 'neon'\nsynonyms = 3", ["concept: synonyms: ", "valid string", "3"]),
        ("[method]\nname = 'uce'\n[concept]\ntarget = 'neon'\nsynonyms = [3]", ["concept: synonyms: ", "valid string"]),
        ("[method]\nname = 'uce'\n[concept]\ntarget = 'neon'\nkind = 3", ["concept: kind: ", "valid string", "ls concepts"]),
        ("[method]\nname = 'uce'\n[concept]\ntarget = 'neon'\nvocabulary = 3", ["a vocabulary is a name, a file or a table", "3"]),
        ("method = 'uce'", ["method is a table", "'uce'"]),
        ("seed = 'x'\n[method]\nname = 'uce'", ["seed is a whole number", "'x'"]),
        ("[method\nname", ["readable TOML"]),
    ],
)
def test_wrong_configurations(tmp_path: Path, text: str, parts: list[str]):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    line = say("unlearn", "--config", file, "--out", tmp_path / "r").error
    for part in parts:
        assert part in line
    assert not (tmp_path / "r").exists()


def test_a_synonym_written_as_text_is_one_name(tmp_path: Path):
    """And not its letters, which would be erased with the concept."""
    for concept in ("target = 'neon'\nsynonyms = 'glow'", "targets = [{target = 'neon', synonyms = 'glow'}, {target = 'ring'}]"):
        (tmp_path / "mine.toml").write_text(f"[method]\nname = 'uce'\n[concept]\n{concept}")
        said = say("unlearn", "--config", tmp_path / "mine.toml", "--dry-run")
        assert "'glow'" in said.out
        assert "'g'" not in said.out


def test_a_configuration_knows_its_model(run: Path, model: Path, tmp_path: Path):
    text = (run / "config.toml").read_text()
    printed = json.loads((run / "card.json").read_text())["model"]["fingerprint"]
    (tmp_path / "old.toml").write_text(text.replace(printed, "0" * 32))
    arguments = ("unlearn", "--config", tmp_path / "old.toml", "--dry-run")
    line = say(*arguments).error
    assert "a configuration repeats a run on its own model" in line
    assert f"--model {model}" in line
    assert say(*arguments, "--model", model).code == 0


def test_unknown_metrics_judges_and_pictures(run: Path, tmp_path: Path):
    assert "'UAA' is none (nearest: 'UA')" in say("eval", run, "--metric", "UAA").error
    assert "judge" in say("eval", run, "--judge", tmp_path / "nobody", "--device", "cpu").error
    assert "target_seeds" in say("eval", run, "--target-seeds", "0").error
    assert "guidance_scale" in say("eval", run, "--guidance", "nan", "--device", "cpu").error
    assert not (run / "evaluation").exists()


# --- models -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "model")


def refused(folder: Path, tmp_path: Path) -> str:
    out = tmp_path / "sheet.png"
    line = say("sample", "--model", folder, "--prompt", "a ring", "--out", out, "--device", "cpu").error
    assert not out.exists()
    return line


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_model_that_lacks_a_part(copied: Path, tmp_path: Path, part: str):
    shutil.rmtree(copied / part)
    assert f"{copied / part} of the model is missing" in refused(copied, tmp_path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_model_of_pickles(copied: Path, tmp_path: Path, part: str):
    for file in (copied / part).glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    line = refused(copied, tmp_path)
    assert "a pickle" in line
    assert "safe_serialization=True" in line


def test_a_model_without_an_index(copied: Path, tmp_path: Path):
    (copied / "model_index.json").unlink()
    assert "no model_index.json" in refused(copied, tmp_path)


def test_a_model_with_a_second_text_encoder(copied: Path, tmp_path: Path):
    index = copied / "model_index.json"
    second = {"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | second))
    line = refused(copied, tmp_path)
    assert "StableDiffusionXLPipeline" in line
    assert "Try a StableDiffusionPipeline" in line


def test_a_model_cut_short(copied: Path, tmp_path: Path):
    file = next((copied / "unet").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    assert str(copied) in refused(copied, tmp_path)


def test_a_delta_of_another_model(run: Path, tmp_path: Path):
    other = tmp_path / "other"
    tiny.pipeline(seed=1).save_pretrained(other, safe_serialization=True)
    for arguments in (
        ("sample", run, "--prompt", "a ring", "--out", tmp_path / "sheet.png"),
        ("eval", run, "--steps", 1),
        ("merge", run, tmp_path / "merged"),
    ):
        line = say(*arguments, "--model", other).error
        assert "a delta belongs to one base model" in line
        assert "give the model" in line
    assert written(tmp_path) == written(other)


# --- runs and folders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "broken")


def test_a_delta_cut_short(broken: Path, tmp_path: Path):
    delta = broken / "delta.safetensors"
    delta.write_bytes(delta.read_bytes()[:100])
    line = say("sample", broken, "--prompt", "a ring", "--out", tmp_path / "sheet.png", "--device", "cpu").error
    assert "whole safetensors file" in line
    assert str(delta) in line


def test_a_card_cut_short(broken: Path, unlearn: Unlearn):
    card = broken / "card.json"
    card.write_text(card.read_text()[:50])
    for said in (say("eval", broken), say("show", broken), unlearn("--target", "neon", "--out", broken)):
        assert str(card.parent) in said.error


@pytest.mark.parametrize("card", ["[]", "{}", '{"status": "done", "id": "r"}', '{"status": "done", "concept": 3}'])
def test_a_card_that_lacks_what_cards_have(broken: Path, card: str):
    (broken / "card.json").write_text(card)
    assert "a run's card has" in (error := say("eval", broken).error) or "a run is finished" in error
    assert "unreadable" in say("ls", "runs", "--runs", broken.parent).out


def test_an_unfinished_run(broken: Path, tmp_path: Path):
    card = json.loads((broken / "card.json").read_text())
    (broken / "card.json").write_text(json.dumps(card | {"status": "running"}))
    for arguments in (("eval", broken), ("sample", broken, "--prompt", "a ring"), ("merge", broken, tmp_path / "merged")):
        line = say(*arguments).error
        assert "a run is finished" in line
        assert "repeat its `expunge unlearn`" in line


def test_a_checkpoint_cut_short(unlearn: Unlearn, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Refused with the file's name; without it, the run is as good as new."""
    from expunge.training.loop import Trainer

    untouched = Trainer.fit

    def interrupted(self):
        yield next(untouched(self))
        raise KeyboardInterrupt

    arguments = ("--target", "neon", "--checkpoint-every", 1, "--out", tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", interrupted)
        assert unlearn(*arguments).code == 130
    checkpoint = tmp_path / "r" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    line = unlearn(*arguments).error
    assert str(checkpoint) in line
    assert "delete" in line
    checkpoint.unlink()
    assert unlearn(*arguments).code == 0
    assert (tmp_path / "r" / "delta.safetensors").read_bytes() == (run / "delta.safetensors").read_bytes()


def test_a_folder_that_cannot_be_written(unlearn: Unlearn, run: Path):
    assert "writable folder: /dev/null/x" in unlearn("--target", "neon", "--out", "/dev/null/x").error
    assert (
        "/dev/null"
        in say("sample", run, "--prompt", "a ring", "--seeds", 1, "--steps", 1, "--out", "/dev/null/x.png", "--device", "cpu").error
    )
    assert "/dev/null" in say("report", run, "--out", "/dev/null/x.html").error
    assert "/dev/null/x" in say("merge", run, "/dev/null/x").error


def test_a_folder_of_another_run(unlearn: Unlearn, run: Path):
    before = {p: p.read_bytes() for p in written(run)}
    line = unlearn("--target", "dots", "--out", run).error
    assert "a folder holds one run" in line
    assert "--out" in line
    assert {p: p.read_bytes() for p in written(run)} == before


def test_a_folder_of_something_else(unlearn: Unlearn, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    assert "holds something else" in unlearn("--target", "neon", "--out", tmp_path).error
    assert "holds something else" in unlearn("--target", "neon", "--out", tmp_path / "thesis.tex").error
    assert written(tmp_path) == [tmp_path / "thesis.tex"]


def test_what_a_killed_process_was_writing_is_no_obstacle(unlearn: Unlearn, tmp_path: Path):
    """A kill may strike before the first file is in its place."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".card.json.k1x").touch()
    assert unlearn("--target", "neon", "--out", tmp_path / "r", method="uce").code == 0


def test_a_merge_onto_something(unlearn: Unlearn, run: Path, tmp_path: Path):
    """Found out before the run, which may take hours."""
    (tmp_path / "thesis.tex").touch()
    assert "a model is written into a new folder" in say("merge", run, tmp_path).error
    assert "a model is written into a new folder" in unlearn("--target", "neon", "--out", tmp_path / "r", "--merge", tmp_path).error
    assert written(tmp_path) == [tmp_path / "thesis.tex"]


def full_after(writes: int) -> Callable[[int], None]:
    """An `os.fsync` that fits so many files on the disk."""
    untouched, left = os.fsync, writes

    def fsync(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        untouched(handle)

    return fsync


@pytest.mark.parametrize("writes", range(7))
def test_a_full_disk(unlearn: Unlearn, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int):
    """Whichever file is the first that no longer fits, it is absent; with space again the run ends as if nothing had been.

    In order: the card, the configuration, two checkpoints with their reference rows, the log, the delta.
    """
    arguments = ("--target", "neon", "--checkpoint-every", 1, "--out", tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after(writes))
        line = unlearn(*arguments).error
        assert "No space left on device" in line
        assert "free some space" in line
    assert len(written(tmp_path / "r")) <= writes
    assert not (tmp_path / "r" / "delta.safetensors").exists()
    assert unlearn(*arguments).code == 0
    assert (tmp_path / "r" / "delta.safetensors").read_bytes() == (run / "delta.safetensors").read_bytes()


def test_a_loss_that_is_not_finite(unlearn: Unlearn, tmp_path: Path):
    """A step of 1e30 throws the weights so far that the next prediction overflows."""
    line = unlearn("--target", "neon", "--lr", "1e30", "--steps", 3, "--out", tmp_path / "r").error
    assert "at step 2: the term " in line
    assert line.endswith("Try a lower --lr, or fp32.")
    assert not (tmp_path / "r" / "delta.safetensors").exists()


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    """What is no user's mistake must not look like one."""
    from expunge.cli import ls

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ls, "_judges", broken)
    with pytest.raises(ZeroDivisionError):
        say("ls", "judges")
