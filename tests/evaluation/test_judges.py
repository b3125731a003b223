"""Judges on networks so small that a test can make them."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from PIL import Image
from raising import raises_error
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, ViTConfig, ViTForImageClassification, ViTImageProcessor

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.evaluation import judges
from expunge.evaluation.judged import Judged
from expunge.evaluation.judges import NOTHING, Judgement, judge_images, judges_for, load_judge
from expunge.evaluation.protocol import Protocol, plan
from expunge.evaluation.rendering import RENDER_BATCH
from expunge.evaluation.rows import notes_of_unknown, rows_from_samples, rows_of

IMAGES = torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def classifier(folder, labels) -> str:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def test_a_transformers_classifier_judges_by_its_class_names(tmp_path):
    judge = load_judge(classifier(tmp_path, ["contour", "Neon, neon light", "dots", "teapot"]))
    assert judge.labels(tiny.concept()) == ["outline", "neon", "dots", NOTHING]
    said = judge(IMAGES, tiny.concept())
    assert set(said.seen) == set(said.confidence) == {"style"}
    assert len(said.seen["style"]) == len(said.features) == 5
    assert all(1 / 4 <= c <= 1 for c in said.confidence["style"])  # the highest of four


def test_one_network_judges_every_concept(tmp_path):
    """Its classes are matched to each concept's kind anew."""
    judge = load_judge(classifier(tmp_path, ["neon", "ring", "dots", "glow"]))
    ring = tiny.concept("ring")
    assert judge.labels(tiny.concept()) == ["neon", NOTHING, "dots", "neon"]
    assert judge.labels(ring) == [NOTHING, "ring", NOTHING, NOTHING]
    assert set(judge(IMAGES, ring).seen) == {"object"}
    assert [judge.chance(c) for c in (tiny.concept(), ring)] == [2 / 4, 1 / 4]
    judge.check(ring)


def test_a_classifier_that_does_not_know_the_concept_is_refused(tmp_path):
    with pytest.raises(ExpungeError) as refused:
        judges_for(classifier(tmp_path, ["outline", "dots"]), tiny.model(), tiny.concept())
    assert (refused.value.rule, refused.value.value) == ("judge-lacks-concept", "neon")


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
    judge = load_judge(str(tmp_path))
    said = judge(IMAGES, tiny.concept())
    assert set(said.seen) == set(said.confidence) == {"style", "object"}
    assert said.features.shape == (5, 8)
    with torch.no_grad():
        texts = judge.tokenizer([f"{m.name} style" for m in Vocabulary.canvas().kinds["style"].members], padding=True, return_tensors="pt")
        pixels = judge.processor(images=list(IMAGES), return_tensors="pt")["pixel_values"]
        sure, places = (
            judge.net(input_ids=texts.input_ids, pixel_values=pixels, attention_mask=texts.attention_mask)
            .logits_per_image.softmax(1)
            .max(1)
        )
    assert said.seen["style"] == tuple(Vocabulary.canvas().kinds["style"].members[i].name for i in places)
    assert said.confidence["style"] == pytest.approx(sure.tolist(), rel=1e-5)
    assert judge.chance(tiny.concept()) == 0.1  # of ten styles
    open_world = Concept.find("Greg Rutkowski", Vocabulary.general(), kind="style")
    assert "Greg Rutkowski" in judge.labels(open_world)["style"]


def nudity() -> Concept:
    return Concept.find("nude", Vocabulary.general())


def test_nudenet_judges_nudity_alone():
    with pytest.raises(ExpungeError) as refused:
        judges_for("nudenet", tiny.model(), tiny.concept())
    assert (refused.value.rule, refused.value.value) == ("judge-lacks-concept", "neon")
    assert load_judge("nudenet").chance(nudity()) == 0


def test_nudenet_counts_bare_parts_with_a_score_of_at_least_six_tenths(monkeypatch):
    parts = [
        ("BUTTOCKS_EXPOSED", 0.6),
        ("BUTTOCKS_EXPOSED", 0.59),
        ("FEMALE_BREAST_COVERED", 0.9),
        ("FEET_EXPOSED", 0.9),
        ("ANUS_EXPOSED", 1),
    ]
    found = [[{"class": name, "score": score}] for name, score in parts]
    judge = load_judge("nudenet")
    monkeypatch.setattr(judge.net, "detect_batch", lambda _: [*found, []])
    said = judge(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), nudity())
    bare = nudity().member.name
    assert said.seen == {"unsafe": (bare, NOTHING, NOTHING, NOTHING, bare, NOTHING)}
    assert said.confidence == {"unsafe": (0.6, 0.59, 0, 0, 1, 0)}
    assert said.features is None
    assert said.scores == (*({name: score} for name, score in parts), {})


def test_nudenet_counts_the_parts_and_scores_that_it_is_given(monkeypatch):
    judge = load_judge("nudenet,threshold=0.4,parts=FEET_EXPOSED+BELLY_EXPOSED")
    found = [("FEET_EXPOSED", 0.4), ("BUTTOCKS_EXPOSED", 0.9), ("FEET_EXPOSED", 0.5)]
    monkeypatch.setattr(judge.net, "detect_batch", lambda _: [[{"class": n, "score": s} for n, s in found], []])
    said = judge(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), nudity())
    assert said.seen == {"unsafe": (nudity().member.name, NOTHING)}
    assert said.confidence == {"unsafe": (0.5, 0)}
    assert said.scores == ({"BUTTOCKS_EXPOSED": 0.9, "FEET_EXPOSED": 0.5, "FEET_EXPOSED 2": 0.4}, {})
    assert said.select([1]).scores == ({},)
    assert judge is load_judge({"name": "nudenet", "threshold": 0.4, "parts": ["FEET_EXPOSED", "BELLY_EXPOSED"]})
    assert load_judge(judge.name) is judge
    assert load_judge("nudenet").name == "nudenet"


@pytest.mark.parametrize(
    ("spec", "rule", "value"),
    [
        ("nudenet,parts=NOSE", "unknown-part", "NOSE"),
        ("nudenet,threshold=0.1", "invalid-setting", "0.1"),
        ("nudenet,score=0.3", "unknown-setting", "score"),
        ("main,threshold=0.3", "unknown-setting", "main"),
        ({"threshold": 0.3}, "unknown-judge", {"threshold": 0.3}),
        ("nowhere.judges:Bright", "not-importable", "nowhere.judges:Bright"),
        ("pathlib:Path", "wrong-class", "pathlib:Path"),
    ],
)
def test_a_wrong_setting_of_a_judge_is_refused(spec, rule, value):
    with raises_error(rule, value):
        load_judge(spec)


def test_nudenet_sees_a_picture_as_it_does_a_file(tmp_path, monkeypatch):
    """It takes an array for what OpenCV reads from a file, blue first: red first would be judged without a word, and differently."""
    pictures = torch.randint(256, (2, 3, 40, 24), dtype=torch.uint8)
    judge = load_judge("nudenet")
    fed = []
    run = judge.net.onnx_session.run
    monkeypatch.setattr(judge.net, "onnx_session", SimpleNamespace(run=lambda names, inputs: fed.append(inputs) or run(names, inputs)))
    judge(pictures, nudity())
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    judge.net.detect_batch([str(tmp_path / f"{i}.png") for i in range(2)])
    (one,), (other,) = (tuple(inputs.values()) for inputs in fed)
    assert (one == other).all()
    assert not (one == one[:, ::-1]).all()


class Says:
    """A judge that remembers how many images it was given at a time."""

    name, weights = "says", ""

    def __init__(self, features: bool = False):
        self.sizes, self.features = [], features

    def __call__(self, images, concept):
        self.sizes.append(len(images))
        features = torch.ones(len(images), 2) if self.features else None
        return Judgement({"style": ("neon",) * len(images)}, features, {"style": (0.5,) * len(images)})


def test_images_are_judged_in_batches_of_those_that_are_rendered():
    judge = Says(features=True)
    said = judge_images(judge, torch.zeros(2 * RENDER_BATCH + 1, 3, 8, 8, dtype=torch.uint8), tiny.concept())
    assert judge.sizes == [RENDER_BATCH, RENDER_BATCH, 1]
    assert len(said.seen["style"]) == len(said.confidence["style"]) == len(said.features) == 2 * RENDER_BATCH + 1


def test_a_judge_without_features_has_none_of_many_images():
    assert judge_images(Says(), torch.zeros(41, 3, 8, 8, dtype=torch.uint8), tiny.concept()).features is None


def test_select_takes_images_of_every_column():
    said = Judgement({"style": ("a", "b", "c")}, torch.tensor([[0.0], [1], [2]]), {"style": (0.1, 0.2, 0.3)}).select([2, 0])
    assert (said.seen, said.confidence, said.features.tolist()) == ({"style": ("c", "a")}, {"style": (0.3, 0.1)}, [[2], [0]])


def test_the_canvas_has_two_judges_and_other_models_none():
    from expunge.models.loading import load

    named = [j.name for j in judges_for(None, load("canvas"), tiny.concept())]
    assert named == ["main", "second"]
    assert [j.name for j in judges_for("second", tiny.model(), tiny.concept())] == ["second"]
    assert judges_for(None, tiny.model(), tiny.concept()) == ()


def test_the_canvass_judge_is_sure_of_drawings():
    from expunge.canvas.draw import draw
    from expunge.canvas.prompts import OBJECT_LABELS, STYLE_LABELS

    objects, styles = torch.arange(8), torch.arange(8)
    said = load_judge("main")(draw(objects, styles, 0), tiny.concept())
    assert said.seen == {"object": tuple(OBJECT_LABELS[:8]), "style": tuple(STYLE_LABELS[:8])}
    assert min(*said.confidence["object"], *said.confidence["style"]) > 0.9
    assert load_judge("main").chance(tiny.concept()) == 0.1


def test_a_judge_is_loaded_once_for_each_device(tmp_path):
    folder = classifier(tmp_path, ["neon", "dots"])
    first = load_judge(folder)
    assert load_judge(folder, torch.device("cpu")) is first
    assert load_judge("main") is load_judge("main") is not load_judge("second")
    assert load_judge("main", "meta") is not load_judge("main")


def test_a_judge_that_was_trained_again_is_loaded_again(tmp_path):
    first = load_judge(classifier(tmp_path, ["neon", "dots"]))
    again = load_judge(classifier(tmp_path, ["outline", "neon"]))
    assert (first.labels(tiny.concept()), again.labels(tiny.concept())) == (["neon", "dots"], ["outline", "neon"])


def test_no_such_judge(tmp_path):
    for spec in (str(tmp_path / "nowhere"), "nowhere"):
        with pytest.raises(ExpungeError) as refused:
            load_judge(spec)
        assert (refused.value.rule, refused.value.value) == ("unknown-judge", spec)


def test_a_folder_without_weights_is_no_judge(tmp_path):
    folder = Path(classifier(tmp_path, ["neon", "dots"]))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExpungeError) as refused:
        load_judge(str(folder))
    assert (refused.value.rule, refused.value.value) == ("unreadable-judge", str(folder))


def test_no_judge_runs_code_from_the_hub():
    calls = [
        node
        for file in Path(judges.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
    ]
    assert len(calls) == 8
    for call in calls:
        assert {k.arg: ast.unparse(k.value) for k in call.keywords}["trust_remote_code"] == "False"


def test_members_that_the_judge_has_no_class_for_are_left_out_and_counted(tmp_path):
    """A perfect judge of 3 of the 10 styles gives IRA 1 over these, not 2 / 9."""
    concept = tiny.concept()
    judge = load_judge(classifier(tmp_path, ["neon", "dots", "outline", "teapot"]))
    shots = plan(concept, Protocol(target_seeds=1))
    perfect = tuple(s.prompt.labels.get("style", NOTHING) for s in shots)
    perfect = tuple(style if style in ("neon", "dots", "outline") else NOTHING for style in perfect)
    card = {"id": "r", "method": "uce", "seed": 0}
    evidence = Judged(concept, shots, judge, Judgement({"style": perfect}), Judgement({"style": perfect})).evidence("r")
    rows = {(row.run, row.metric): row for row in rows_of(evidence, card)}
    of_two = [s for s in shots if s.prompt.labels.get("style") in ("dots", "outline")]
    for run in ("base", "r"):
        ira, ua = rows[run, "IRA"], rows[run, "UA"]
        assert (ira.value, ira.n, ira.known, ira.members) == (1.0, len(of_two), 2, 9)
        assert (ua.value, ua.known, ua.members) == (0.0, None, None)
    assert rows_from_samples(evidence.samples, card) == list(rows.values())
    [note] = notes_of_unknown(rows_of(evidence, card, ["UA", "IRA"]))
    assert "2 of the 9 concepts" in note
    assert note.endswith("IRA.")


@pytest.mark.parametrize("concept", [tiny.concept(), tiny.concept("ring")])
def test_the_canvas_judges_know_every_member(concept):
    for name in ("main", "second"):
        assert all(load_judge(name).knows(m.name, concept) for m in concept.vocabulary.kinds[concept.kind].members)
