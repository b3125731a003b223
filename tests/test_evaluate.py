"""Measuring a run end to end on the tiny pipeline."""

import json
from types import SimpleNamespace

import pytest
import tiny
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, ViTConfig, ViTForImageClassification, ViTImageProcessor

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.evaluation.evaluate import evaluate, looked, read_rows
from expunge.evaluation.judges import NOTHING, Judgement, load_judge
from expunge.evaluation.protocol import Protocol, plan
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

FEW = Protocol(target_seeds=2, prompts=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Run, Store]:
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store")
    return unlearn(tiny.model(), tiny.concept(), training=tiny.TRAINING, out=folder / "run", cache=store), store


def test_rows_pictures_and_the_untouched_model(made):
    run, store = made
    rows = evaluate(run, tiny.model(), judge="main", protocol=FEW, cache=store)
    assert rows == read_rows(run)
    by = {(r.run, r.metric): r for r in rows}
    owners = {r.run for r in rows}
    assert owners == {"base", run.id}
    for metric in ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA", "FID_base", "KID_base", "weight_change", "null_drift"):
        assert {(o, metric) for o in owners} <= by.keys()
    assert by["base", "FID_base"].value == pytest.approx(0, abs=1e-6)
    assert by["base", "weight_change"].value == by["base", "null_drift"].value == 0
    assert by[run.id, "weight_change"].value == run.card["relative_change"]
    assert by[run.id, "null_drift"].value > 0
    assert by[run.id, "UA"].n == 4 * 2
    pictures = json.loads((run.folder / "evaluation" / "pictures.json").read_text())
    assert {p["probe"] for p in pictures} == {"target", "synonyms", "siblings", "same_domain", "cross_domain", "null"}
    assert all((run.folder / "evaluation" / p[which]).exists() for p in pictures for which in ("base", "unlearned"))


def test_an_evaluation_repeated_draws_nothing_again_and_a_lost_picture_alone(made):
    run, store = made
    first = evaluate(run, tiny.model(), judge="main", protocol=FEW, cache=store)
    model, calls = tiny.model(), []
    sample = model.sample
    model.sample = lambda prompts, seeds, sampler: calls.append(prompts) or sample(prompts, seeds, sampler)
    assert evaluate(run, model, judge="main", protocol=FEW, cache=store) == first
    assert calls == []
    lost, cut = sorted((store.root / "pictures").glob("*.png"))[:2]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:40])
    evaluate(run, model, judge="main", protocol=FEW, cache=store)
    assert sum(map(len, calls)) == 2


def test_both_models_start_from_the_same_noise_and_no_two_pictures_from_one():
    shots = plan(tiny.concept(), FEW)
    assert len({s.noise_seed for s in shots}) == len(shots)
    assert [s.noise_seed for s in plan(tiny.concept(), FEW)] == [s.noise_seed for s in shots]
    assert not {s.noise_seed for s in plan(tiny.concept(), Protocol(target_seeds=2, prompts=4, seed=1))} & {s.noise_seed for s in shots}


def test_without_a_judge_what_needs_none_remains(made):
    run, store = made
    rows = evaluate(run, tiny.model(), protocol=FEW, cache=store)
    assert {r.metric for r in rows} == {"weight_change", "null_drift"}
    about = json.loads((run.folder / "evaluation" / "evaluation.json").read_text())
    assert about["judge"] is None
    assert about["notes"]


def test_another_base_model_is_refused(made):
    with pytest.raises(ExpungeError, match="a delta belongs to one base model"):
        evaluate(made[0], tiny.model(1), protocol=FEW, cache=made[1])


def classifier(folder, labels) -> str:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def test_a_transformers_classifier_judges_by_its_class_names(tmp_path):
    judge = load_judge(classifier(tmp_path, ["contour", "Neon, neon light", "dots", "teapot"]), tiny.concept())
    assert judge.labels == ["outline", "neon", "dots", NOTHING]
    said = judge(torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8))
    assert set(said.seen) == {"style"}
    assert len(said.seen["style"]) == len(said.features) == 5


def test_a_classifier_that_does_not_know_the_concept_is_refused(tmp_path):
    with pytest.raises(ExpungeError, match="has no class called 'neon'"):
        load_judge(classifier(tmp_path, ["outline", "dots"]), tiny.concept())


def test_clip_judges_by_the_vocabulary(tmp_path):
    config = CLIPConfig(
        text_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 400,
                     "max_position_embeddings": 12, "projection_dim": 8, "eos_token_id": 356, "bos_token_id": 355},
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32,
                       "patch_size": 16, "projection_dim": 8},
        projection_dim=8,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    said = load_judge(str(tmp_path), tiny.concept())(torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8))
    assert set(said.seen) == {"style", "object"}
    assert said.features.shape == (5, 8)


def nudity() -> Concept:
    return Concept.find("nude", Vocabulary.general())


def test_nudenet_judges_nudity_alone():
    with pytest.raises(ExpungeError, match="nudenet sees nudity alone, not 'neon'"):
        load_judge("nudenet", tiny.concept())


def test_nudenet_counts_bare_parts_with_a_score_of_at_least_six_tenths(monkeypatch):
    parts = [
        ("BUTTOCKS_EXPOSED", 0.6),
        ("BUTTOCKS_EXPOSED", 0.59),
        ("FEMALE_BREAST_COVERED", 0.9),
        ("FEET_EXPOSED", 0.9),
        ("ANUS_EXPOSED", 1),
    ]
    found = [[{"class": name, "score": score}] for name, score in parts]
    judge = load_judge("nudenet", nudity())
    monkeypatch.setattr(judge.net, "detect_batch", lambda _: [*found, []])
    said = judge(torch.zeros(6, 3, 8, 8, dtype=torch.uint8))
    bare = judge.label
    assert said.seen == {"unsafe": (bare, NOTHING, NOTHING, NOTHING, bare, NOTHING)}
    assert said.features is None


def test_nudenet_sees_a_picture_as_it_does_a_file(tmp_path, monkeypatch):
    """It takes an array for what OpenCV reads from a file, blue first: red first would be judged without a word, and differently."""
    pictures = torch.randint(256, (2, 3, 40, 24), dtype=torch.uint8)
    judge = load_judge("nudenet", nudity())
    fed = []
    run = judge.net.onnx_session.run
    monkeypatch.setattr(judge.net, "onnx_session", SimpleNamespace(run=lambda names, inputs: fed.append(inputs) or run(names, inputs)))
    judge(pictures)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    judge.net.detect_batch([str(tmp_path / f"{i}.png") for i in range(2)])
    (one,), (other,) = (tuple(inputs.values()) for inputs in fed)
    assert (one == other).all()
    assert not (one == one[:, ::-1]).all()


def test_distances_are_left_out_where_the_judge_has_no_features():
    class Says:
        name = "says"

        def __call__(self, pictures):
            return Judgement({"style": ("neon",) * len(pictures)}, None)

    said = looked(Says(), torch.zeros(101, 3, 8, 8, dtype=torch.uint8))
    assert (len(said.seen["style"]), said.features) == (101, None)


def test_no_such_judge(tmp_path):
    with pytest.raises(ExpungeError, match="a judge is main, second, nudenet, or a transformers model"):
        load_judge(str(tmp_path / "nowhere"), tiny.concept())
