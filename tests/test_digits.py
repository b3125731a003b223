"""The embedded model of handwritten digits: its scans, its quality, and the whole way from training to relearning, very small."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from raising import raises_error
from rich.progress import Progress

from expunge.audits.setup import refuse_control
from expunge.concepts.concept import Concept
from expunge.digits import DIGITS, WEIGHTS
from expunge.digits.pictures import Parts, Pictures, read_digits, read_pictures, scans_like, split
from expunge.digits.training.recipe import CIFAR10, RECIPES, parameters, untrained
from expunge.digits.training.retrain import retrain
from expunge.digits.training.train import main, train_unet
from expunge.evaluation.judges import judge_images, load_judge
from expunge.models.defaults import defaults_of
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.runs.unlearn import unlearn

SMALL = replace(RECIPES["digits"], steps=3, batch_size=8, channels=(8, 16), judge_steps=3, judge_widths=(8, 16))


@pytest.fixture(scope="module")
def parts() -> Parts:
    return split(read_digits())


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Images of two classes, red and blue, in a folder for each."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        (folder / name).mkdir()
        for i in range(12):
            Image.new("RGB", (20, 16), tuple(c + i for c in colour)).save(folder / name / f"{i}.png")
    return folder


def test_no_scan_is_in_two_parts(parts: Parts):
    whole = read_digits()
    rows = [{(*image.flatten().tolist(), int(label)) for image, label in zip(p.images, p.labels, strict=True)} for p in _each(parts)]
    assert sum(len(p) for p in _each(parts)) == len(whole) == 1797
    assert len(set.union(*rows)) == sum(map(len, rows))  # none of the scans is there twice
    assert [len(p) for p in _each(parts)] == [599, 899, 299]
    for part in _each(parts):
        assert part.labels.bincount().min() >= 0.09 * len(part)


def _each(parts: Parts) -> tuple[Pictures, ...]:
    return parts.judge, parts.model, parts.reference


def test_real_images_are_those_of_the_reference(parts: Parts):
    real = scans_like([{"label": "3"}, {"label": "3"}, {"label": "5"}, {}])
    assert len(real) == int(torch.isin(parts.reference.labels, torch.tensor([3, 5])).sum())
    assert {i.numpy().tobytes() for i in real[:, 0]} <= {i.numpy().tobytes() for i in parts.reference.images[:, 0]}


def test_the_judge_knows_scans_that_it_never_saw(parts: Parts):
    concept = Concept.find("label:0", defaults_of(DIGITS).vocabulary())
    judge = load_judge(DIGITS)
    seen = judge_images(judge, parts.reference.images.expand(-1, 3, -1, -1), concept).seen["label"]
    assert sum(s == str(n) for s, n in zip(seen, parts.reference.labels.tolist(), strict=True)) >= 0.97 * len(seen)
    assert judge.name == DIGITS


def test_the_model_writes_the_digit_that_it_is_asked_for():
    model, names = load(DIGITS), [str(i % 10) for i in range(60)]
    concept = Concept.find("label:0", model.defaults.vocabulary())
    images = model.sample([f"label:{name}" for name in names], list(range(60)))
    seen = judge_images(load_judge(DIGITS), images, concept).seen["label"]
    assert sum(s == name for s, name in zip(seen, names, strict=True)) >= 55
    card = json.loads((WEIGHTS / "card.json").read_text())
    assert card["samples"]["share"] >= 0.97
    assert card["parameters"] == parameters(model.network)
    assert (card["sampler"]["steps"], card["sampler"]["guidance_scale"]) == defaults_of(DIGITS).sampler


def test_training_begins_to_learn_and_goes_on_where_it_stopped(parts: Parts, tmp_path):
    recipe = replace(SMALL, steps=50)
    whole = train_unet(parts.model, recipe, tmp_path, 0, torch.device("cpu"), Progress(disable=True))
    [line] = [json.loads(line) for line in (tmp_path / "unet.jsonl").read_text().splitlines()]
    assert line["loss"] < 0.9  # a network that predicts 0 has about 1, weighted less where there is little noise
    again = train_unet(parts.model, recipe, tmp_path, 0, torch.device("cpu"), Progress(disable=True))
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_folder_of_classes_becomes_a_model_that_forgets_a_class_and_is_attacked(colours: Path, tmp_path, monkeypatch, capsys):
    """The whole way: train, retrain without a class, unlearn it, measure."""
    monkeypatch.setitem(RECIPES, "digits", SMALL)
    given = ["--recipe", "digits", "--size", "8", "--sampler-steps", "2", "--device", "cpu"]
    main(["--data", str(colours), *given, "--out", str(tmp_path / "out")])
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["images"] == {"judge": 8, "model": 12, "reference": 4}
    assert "label:blue" in capsys.readouterr().out
    folder = str(tmp_path / "out" / "pipeline")
    model, pictures = load(folder), split(read_pictures(str(colours), 8))
    assert model.defaults.vocabulary() == defaults_of(folder).vocabulary()
    control = retrain("label:red", tmp_path / "control", model=folder, parts=pictures, recipe=replace(SMALL, batch_size=4))
    run = unlearn(model, "label:1", "dimum", training={"steps": 2, "batch_size": 2, "points": 4, "pictures": 2}, out=tmp_path / "run")
    refuse_control(control, run.concept().parts)
    table = model.network.class_embedding.weight
    with torch.no_grad():
        change = control.delta(model.fingerprint)["class_embedding.weight"] != table.half()
    assert change.any()
    judge = load_judge(str(tmp_path / "out" / "judge"))
    images = model.sample(["label:red", "label:blue"], [1, 2], Sampler(2, 1.0))
    assert set(judge_images(judge, images, run.concept()).seen["label"]) <= {"red", "blue"}


def test_no_scan_of_the_class_trains_its_control(parts: Parts):
    others = parts.model.without(3)
    assert set(others.labels.tolist()) == {0, 1, 2, 4, 5, 6, 7, 8, 9}
    assert len(others) == int((parts.model.labels != 3).sum())


def test_batches_of_cifar_are_read_without_unpickling(tmp_path):
    rows = torch.randint(256, (9, 3073), dtype=torch.uint8)
    rows[:, 0] = torch.arange(9) % 3
    (tmp_path / "data_batch_1.bin").write_bytes(rows.numpy().tobytes())
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    found = read_pictures(str(tmp_path))
    assert found.names == ("airplane", "automobile", "bird")
    assert found.labels.tolist() == [0, 1, 2] * 3
    assert found.images[4, 2, 0, 1] == rows[4, 1 + 2 * 1024 + 1]


def as_saved(table, folder: Path) -> None:
    table.save_to_disk(folder)


def as_splits(table, folder: Path) -> None:
    import datasets

    datasets.DatasetDict({"test": table.select([0]), "train": table}).save_to_disk(folder)


def as_parquet(table, folder: Path) -> None:
    (folder / "plain_text").mkdir(parents=True)
    table.to_parquet(folder / "plain_text" / "train-00000-of-00001.parquet")


def as_folders(table, folder: Path) -> None:
    for i, row in enumerate(table):
        (held := folder / "train" / table.features["label"].names[row["label"]]).mkdir(parents=True, exist_ok=True)
        row["img"].save(held / f"{i}.png")


@pytest.mark.parametrize("write", [as_saved, as_splits, as_parquet, as_folders])
def test_a_data_set_on_this_machine_is_read(write, tmp_path, monkeypatch):
    """CIFAR-10 in miniature, in the columns that it has on the hub."""
    import datasets  # which takes seconds, and each process that shares the tests reads every file

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    images = [Image.new("RGB", (32, 32), (i, 2 * i, 3 * i)) for i in range(6)]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["airplane", "bird"])})
    write(datasets.Dataset.from_dict({"img": images, "label": [1, 0, 1, 0, 1, 0]}, features), tmp_path / "set")
    found = read_pictures(f"datasets:{tmp_path / 'set'}")
    assert found.names == ("airplane", "bird")
    assert dict(zip(found.images[:, 2, 0, 0].tolist(), found.labels.tolist(), strict=True)) == {0: 1, 3: 0, 6: 1, 9: 0, 12: 1, 15: 0}
    assert found.images.shape == (6, 3, 32, 32)
    assert read_pictures(f"datasets:{tmp_path / 'set'}", 8).images.shape == (6, 3, 8, 8)


def test_a_data_set_without_classes_or_elsewhere_is_refused(tmp_path):
    import datasets

    with raises_error("missing-data", "owner/name"):
        read_pictures("datasets:owner/name")
    datasets.Dataset.from_dict({"label": [0, 1]}).save_to_disk(tmp_path / "set")
    with raises_error("missing-column", str(tmp_path / "set")):
        read_pictures(f"datasets:{tmp_path / 'set'}")
    (tmp_path / "set" / "state.json").write_text("{")
    with raises_error("unreadable-data", str(tmp_path / "set")):
        read_pictures(f"datasets:{tmp_path / 'set'}")


@pytest.mark.parametrize(("make", "rule"), [(lambda f: None, "missing-data"), (lambda f: (f / "a").mkdir(), "missing-data")])
def test_data_that_is_none_is_refused(tmp_path, make, rule):
    make(tmp_path)
    with raises_error(rule):
        read_pictures(str(tmp_path))


def test_too_few_images_and_too_large_batches_are_refused(colours: Path, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    with raises_error("too-few-images"):
        read_pictures(str(tmp_path))
    with raises_error("batch-too-large", 99):
        train_unet(split(read_pictures(str(colours))).model, replace(SMALL, batch_size=99), tmp_path, 0, torch.device("cpu"), Progress())


def test_salun_size_is_that_of_its_paper(capsys, colours: Path):
    """35.7 million without the table of classes and its null row, as DDPM's for CIFAR-10 (arXiv 2006.11239)."""
    assert parameters(untrained(CIFAR10, tuple("0123456789"), 3, 32)) == pytest.approx(35.7e6, rel=0.01)
    main(["--data", str(colours), "--dry-run"])
    told = json.loads(capsys.readouterr().out)
    assert (told["classes"], told["steps"], told["forwards"]) == (2, 800_000, 102_400_000)


def test_the_benchmark_asks_for_no_digit_that_settings_were_tried_on(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    benchmark = importlib.import_module("digits")
    asked = benchmark.suite()
    assert not set(asked["tuning"]) & set(asked["digits"])
    assert len(list(benchmark.units(asked))) == len(asked["seeds"]) * len(asked["digits"]) * (1 + len(asked["methods"]))


def test_the_page_of_results_is_what_the_units_give(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    page = importlib.import_module("digits_page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, page.kept()) == text, "run: python benchmarks/digits_page.py"


def test_a_claim_holds_only_where_its_whole_interval_does(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    page = importlib.import_module("digits_page")

    def unit(method: str, digit: int, seen: int) -> dict:
        relearn = {
            "unlearned": [[0, 0, 40], [200, seen, 40]],
            "base": [[0, 40, 40], [200, 40, 40]],
            "retrained": [[0, 0, 40], [200, 2, 40]],
        }
        return {"digit": str(digit), "seed": 0, "method": method, "seconds": 1.0, "relearn": relearn} | {
            f"{side} {name}": [0.5, 40] for side in ("run", "base") for name in ("UA", "IRA", "FID_drawn")
        }

    units = [unit("DiMUM", digit, 0) for digit in range(4)] + [unit("ESD", digit, 30 + digit) for digit in range(4)]
    units += [unit("SalUn", digit, 2 + 12 * (digit % 2)) for digit in range(4)]
    verdicts = {line.split(" | ")[0].strip("| "): line.rsplit("|", 2)[1].strip() for line in page.claims(units).splitlines()[2:]}
    assert verdicts["DiMUM"] == verdicts["ESD"] == "holds"
    assert verdicts["SalUn"].startswith("open")
    assert verdicts["MiM-MU"] == "not measured"
    few = [unit("DiMUM", digit, 2) for digit in range(2)]
    assert "only 2 digits are measured" in page.claims(few)
    assert page.returned(few)[1] < 0 < page.returned(few)[2]  # two digits that agree are no certainty
    assert "| DiMUM | 4 × 1 | 0.0 [0.0, 2.3] | 0.0 [" in page.relearned(units)
