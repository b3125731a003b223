"""What bad input gets: exit code 2, one line with what happened, the value and what to try, and nothing half-written."""

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
    """Files but for hidden ones, such as locks."""
    return [p for p in folder.rglob("[!.]*") if p.is_file()]


# --- the command line's own errors ------------------------------------------------------------------------------------------


def check(said: Said, rule: str, value: object, hint: str) -> None:
    refusal = said.refusal
    assert (refusal.rule, refusal.value) == (rule, value)
    assert hint in refusal.hint
    assert refusal.hint.startswith("Try ")


@pytest.mark.parametrize(
    ("arguments", "rule", "value", "hint"),
    [
        (["unlern"], "unknown-command", "unlern", "Try 'unlearn'; `expunge --help` lists all."),
        (["unlearn", "--target", "neon"], "missing-method", "--target neon", "`expunge ls methods`"),
        (["unlearn", "mim-mu"], "missing-target", None, "--target"),
        (["unlearn", "mim-mu", "--targt-as", "null"], "unknown-option", "--targt-as", "'--target-as'; `expunge unlearn mim-mu --help`"),
        (["unlearn", "uce", "--target", "neon", "--steps", "3"], "unknown-option", "--steps", "`expunge unlearn uce --help`"),
        (["unlearn", "mim-mu", "--steps"], "missing-value", "--steps", "Try --steps VALUE."),
        (["unlearn", "mim-mu", "--seed", "one"], "invalid-value", "one", "`expunge unlearn mim-mu --help`"),
        (["sample", "--prompt", "a ring", "--seeds", "0"], "invalid-value", "0", "`expunge sample --help`"),
        (["sample", "--prompt", "a ring", "--guidance=high"], "invalid-value", "high", "`expunge sample --help`"),
        (["sample"], "missing-parameter", "--prompt", "`expunge sample --help`"),
        (["report"], "missing-parameter", "RUN", "`expunge report --help`"),
        (["ls"], "missing-parameter", "WHAT", "`expunge ls --help`"),
        (["ls", "methods", "more"], "usage", "ls methods more", "`expunge ls --help`"),
        (["ls", "method"], "unknown-list", "method", "Try 'methods', one of methods, presets, attacks"),
        (["show", "mim-muu"], "unknown-name", "mim-muu", "Try 'mim-mu'; `expunge ls "),
        (["show", "neom"], "unknown-name", "neom", "Try 'neon'"),
        (["show", "relearn-testet"], "unknown-name", "relearn-testet", "Try 'relearn-tested'"),
        (["sample", "--prompt", " "], "empty-prompt", " ", "--prompt 'a ring in neon style'"),
        (["sample", "--prompt", ""], "empty-prompt", "", "--prompt 'a ring in neon style'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage(arguments: list[str], rule: str, value: object, hint: str):
    check(say(*arguments), rule, value, hint)


@pytest.mark.parametrize("verb", ["demo", "audit", "bench"])
def test_verbs_that_run_in_one_process(verb: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    check(say(verb, "RUN"), "several-processes", verb, f"`expunge {verb}` without the launcher")


@pytest.mark.parametrize(
    ("arguments", "rule", "value", "hint"),
    [
        (["--target", "neon", "--sequential"], "stages-of-one-concept", "neon", "another --target"),
        (["--target", "neon", "--target", "ring", "--anchor", "dots"], "anchor-of-several-kinds", "dots", "[concept]"),
        (["--target", "neon", "--target", "ring", "--synonym", "lamp"], "synonym-of-no-concept", "lamp", "[concept]"),
        (["--target", "neon", "--anchor", "dots"], "unused-anchor", "dots", "ca, f-dmu, spm or uce"),
        (["--target", "neon", "--judge", "main"], "judge-without-stop", "main", "--stop-when-gone 20"),
        (["--target", "neon", "--config", "relearn-resistant"], "preset-of-another-method", "mim-mu", "--config relearn-resistant`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_that_do_not_fit_together(unlearn: Unlearn, tmp_path: Path, arguments: list[str], rule: str, value: object, hint: str):
    check(unlearn(*arguments, "--out", tmp_path / "r"), rule, value, hint)
    assert not (tmp_path / "r").exists()


UCE = "[method]\nname = 'uce'\n"


@pytest.mark.parametrize(
    ("text", "rule", "value", "hint"),
    [
        ("[metod]\nname = 'uce'", "unknown-key", "metod", "Try 'method', one of "),
        ("[method]\nridge = 1", "missing-method", None, "adding a name"),
        (UCE + "[concept]\ntargett = 'neon'", "unknown-key", "targett", "Try 'target', one of "),
        (UCE + "[concept]\nkind = 'style'", "missing-target", None, "--target"),
        (UCE + "[concept]\ntargets = 'neon'", "concept-entry", "neon", "targets = [{target = 'neon'}"),
        (UCE + "[concept]\ntarget = ['neon']\ntargets = ['ring']", "concept-entry", "ring", "target = ['neon', 'ring']"),
        (UCE + "[concept]\ntargets = [{target = 'neon', words = 1}]", "unknown-key", "words", "Try one of target, kind, synonyms, anchor."),
        (UCE + "[concept]\ntarget = 'neon'\nvocabulary = 3", "wrong-type", 3, "`expunge show vocabulary`"),
        (UCE + "[concept]\ntarget = 'neon'\n[training]\nsteps = 3", "training-of-closed-form", {"steps": 3}, "without [training]"),
        ("method = 'uce'", "wrong-type", "uce", "config.toml"),
        ("seed = 'x'\n[method]\nname = 'uce'", "wrong-type", "x", "config.toml"),
        ("before = 'uce'\n[method]\nname = 'esd'", "wrong-type", "uce", "config.toml"),
        ("[method]\nname = 'esd'\n[concept]\ntarget = 'neon'\n[stop]\nrule = 'soon'", "unknown-stop-rule", "soon", "Try one of gone"),
    ],
)
def test_configurations_of_another_form(tmp_path: Path, text: str, rule: str, value: object, hint: str):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    check(say("unlearn", "--config", file, "--out", tmp_path / "r"), rule, value, hint)
    assert not (tmp_path / "r").exists()


def test_a_card_that_is_no_json_object(tmp_path: Path):
    for text in ("[]", "{"):
        (tmp_path / "card.json").write_text(text)
        check(say("show", tmp_path), "unreadable-card", str(tmp_path / "card.json"), "`expunge unlearn`")


# --- errors of other packages, of which the command line prints one line -----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["unlearn", "mim-nu", "--target", "neon"], ["'mim-nu'", "'mim-mu'"]),
        (["unlearn", "nowhere.at:All"], ["nowhere.at:All"]),
        (["unlearn", "pathlib:Path"], ["Objective or Edit", "pathlib:Path"]),
        (["ls", "concepts", "--vocabulary", "/nowhere.toml"], ["/nowhere.toml", "expunge show vocabulary"]),
        (["report", "/nowhere"], ["/nowhere"]),
        (["eval", "/nowhere"], ["/nowhere", "expunge unlearn"]),
        (["merge", "/nowhere", "/tmp/never"], ["/nowhere", "expunge unlearn"]),
        (["demo", "--target", "neom"], ["'neom'", "'neon'"]),
        (["demo", "--method", "uec"], ["'uec'", "'uce'"]),
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
        (["--target", "neom"], ["'neom'", "'neon'", "--kind style|object"]),
        (["--target", " \t"], ["target"]),
        (["--target", ""], ["target"]),
        (["--target", "neon", "--synonym", " "], ["synonym"]),
        (["--target", "neon", "--anchor", ""], ["anchor"]),
        (["--target", "neon", "--kind", "stile"], ["'stile'", "'style'"]),
        (["--target", "neon", "--target", "dots", "--target", "glow"], ["'neon' and 'glow'", "synonym"]),
        (["--target", "neon", "--synonym", "zoo"], ["'a ring in zoo style'"]),
        (["--target", "neon", "--synonym", "ring " * 20], ["12", "shorte"]),
        (["--target", "neon", "--device", "abacus"], ["'abacus'", "--device cpu"]),
        (["--target", "neon", "--dtype", "fp33"], ["fp32, bf16, fp16", "'fp33'"]),
        (["--target", "neon", "--model", "/nowhere"], ["'/nowhere'", "path"]),
        (["--target", "neon", "--config", "/nowhere.toml"], ["/nowhere.toml", "config.toml"]),
        (["--target", "neon", "--steps", "0"], ["steps", "greater than or equal to 1", "'0'", "expunge show training"]),
        (["--target", "neon", "--steps", "1.5"], ["steps", "integer", "'1.5'"]),
        (["--target", "neon", "--lr", "-1e-3"], ["lr", "greater than 0", "'-1e-3'"]),
        (["--target", "neon", "--lr", "nan"], ["lr", "nan"]),
        (["--target", "neon", "--lr", "inf"], ["lr", "inf"]),
        (["--target", "neon", "--eta", "-1"], ["eta", "greater than or equal to 0", "'-1'", "expunge show mim-mu"]),
        (["--target", "neon", "--eta", "nan"], ["eta", "nan"]),
        (["--target", "neon", "--eta", "inf"], ["eta", "inf"]),
        (["--target", "neon", "--target-as", "marginl"], ["target_as", "'marginl'"]),
        (["--target", "neon", "--batch-size", "5", "--accumulate", "2"], ["5", "2", "accumulate 1"]),
        (["--target", "neon", "--batch-size", "6", "--accumulate", "4"], ["6", "4", "accumulate 2"]),
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
        (UCE + "rigde = 1", ["'rigde'", "'ridge'"]),
        ("[method]\nname = 'esd'\n[training]\nstep = 1", ["'step'", "'steps'"]),
        ("[method]\nname = 'esd'\n[training]\nlr = nan", ["lr", "nan"]),
        (UCE + "[concept]\ntarget = 'neon'\n[concept.vocabulary.style]\nalone = 'x'", ["[concept.vocabulary]", "expunge show vocabulary"]),
        (UCE + "[concept]\ntarget = 'neon'\nsynonyms = 3", ["synonyms", "valid string", "3"]),
        (UCE + "[concept]\ntarget = 'neon'\nsynonyms = [3]", ["synonyms", "valid string"]),
        (UCE + "[concept]\ntarget = 'neon'\nkind = 3", ["kind", "valid string", "ls concepts"]),
        ("[method\nname", ["mine.toml", "TOML"]),
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
    refusal = say(*arguments).refusal
    assert (refusal.rule, refusal.value) == ("other-base-model", printed)
    assert f"--model {model}" in refusal.hint
    assert say(*arguments, "--model", model).code == 0


def test_unknown_metrics_judges_and_pictures(run: Path, tmp_path: Path):
    line = say("eval", run, "--metric", "UAA").error
    assert "'UAA'" in line
    assert "'UA'" in line
    assert "judge" in say("eval", run, "--judge", tmp_path / "nobody", "--device", "cpu").error
    assert "target_seeds" in say("eval", run, "--target-seeds", "0").error
    assert "guidance_scale" in say("eval", run, "--guidance", "nan", "--device", "cpu").error
    assert not (run / "evaluation" / "rows.jsonl").exists()


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


def test_a_model_that_names_a_part_it_lacks(copied: Path, tmp_path: Path):
    index = copied / "model_index.json"
    second = {"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | second))
    line = refused(copied, tmp_path)
    assert "text_encoder_2" in line


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
        refusal = say(*arguments, "--model", other).refusal
        assert (refusal.rule, refusal.hint) == ("other-base-model", "Try the model that it was made from.")
    assert written(tmp_path) == written(other)


# --- runs and folders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "broken")


def test_a_delta_cut_short(broken: Path, tmp_path: Path):
    delta = broken / "delta.safetensors"
    delta.write_bytes(delta.read_bytes()[:100])
    line = say("sample", broken, "--prompt", "a ring", "--out", tmp_path / "sheet.png", "--device", "cpu").error
    assert "cannot be read as a safetensors file" in line
    assert str(delta) in line


def test_a_card_cut_short(broken: Path, unlearn: Unlearn):
    card = broken / "card.json"
    card.write_text(card.read_text()[:50])
    for said in (say("eval", broken), say("show", broken), unlearn("--target", "neon", "--out", broken)):
        assert str(card.parent) in said.error


@pytest.mark.parametrize("card", ["[]", "{}", '{"status": "done", "id": "r"}', '{"status": "done", "concept": 3}'])
def test_a_card_that_lacks_what_cards_have(broken: Path, card: str):
    (broken / "card.json").write_text(card)
    assert str(broken) in say("eval", broken).error
    assert "unreadable" in say("ls", "runs", "--runs", broken.parent).out


def test_an_unfinished_run(broken: Path, tmp_path: Path):
    card = json.loads((broken / "card.json").read_text())
    (broken / "card.json").write_text(json.dumps(card | {"status": "running"}))
    for arguments in (("eval", broken), ("sample", broken, "--prompt", "a ring"), ("merge", broken, tmp_path / "merged")):
        line = say(*arguments).error
        assert "not finished" in line
        assert "expunge unlearn" in line


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
    assert "deleting" in line
    checkpoint.unlink()
    assert unlearn(*arguments).code == 0
    assert (tmp_path / "r" / "delta.safetensors").read_bytes() == (run / "delta.safetensors").read_bytes()


def test_a_folder_that_cannot_be_written(unlearn: Unlearn, run: Path):
    assert "/dev/null/x" in unlearn("--target", "neon", "--out", "/dev/null/x").error
    assert (
        "/dev/null"
        in say("sample", run, "--prompt", "a ring", "--seeds", 1, "--steps", 1, "--out", "/dev/null/x.png", "--device", "cpu").error
    )
    assert "/dev/null" in say("report", run, "--out", "/dev/null/x.html").error
    assert "/dev/null/x" in say("merge", run, "/dev/null/x").error


def test_a_folder_of_another_run(unlearn: Unlearn, run: Path):
    before = {p: p.read_bytes() for p in written(run)}
    refusal = unlearn("--target", "dots", "--out", run).refusal
    assert (refusal.rule, refusal.hint) == ("folder-of-another-run", "Try another --out.")
    assert {p: p.read_bytes() for p in written(run)} == before


def test_a_folder_of_something_else(unlearn: Unlearn, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    for out in (tmp_path, tmp_path / "thesis.tex"):
        refusal = unlearn("--target", "neon", "--out", out).refusal
        assert (refusal.rule, refusal.value) == ("folder-not-empty", str(out))
    assert written(tmp_path) == [tmp_path / "thesis.tex"]


def test_what_a_killed_process_was_writing_is_no_obstacle(unlearn: Unlearn, tmp_path: Path):
    """A kill may strike before the first file is in its place."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".card.json.k1x").touch()
    assert unlearn("--target", "neon", "--out", tmp_path / "r", method="uce").code == 0


def test_a_merge_onto_something(unlearn: Unlearn, run: Path, tmp_path: Path):
    """Found out before the run, which may take hours."""
    (tmp_path / "thesis.tex").touch()
    for said in (say("merge", run, tmp_path), unlearn("--target", "neon", "--out", tmp_path / "r", "--merge", tmp_path)):
        assert (said.refusal.rule, said.refusal.value) == ("folder-not-empty", str(tmp_path))
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
        assert "freeing some space" in line
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

    monkeypatch.setattr(ls, "_list_judges", broken)
    with pytest.raises(ZeroDivisionError):
        say("ls", "judges")
