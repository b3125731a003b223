"""Judges with a threshold: how it is chosen, what they say, and an evaluation and an audit by them."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from evaluation import networks as small
from PIL import Image
from raising import raises_error
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from expunge.audits.budget import make_budget
from expunge.audits.setup import prepare
from expunge.canvas.draw import draw
from expunge.canvas.prompts import STYLE_LABELS
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.counting import count_images
from expunge.evaluation.early_stopping import Gone
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.judges import NOTHING, ThresholdJudge, load_judge
from expunge.evaluation.judges.calibrated import calibrate, calibration_shots
from expunge.evaluation.networks import load_network
from expunge.evaluation.protocol import Protocol, plan
from expunge.evaluation.results import read_samples
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

IMAGES = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
NEON = STYLE_LABELS.index("neon")


def drawings(style: int | None, count: int, seed: int) -> torch.Tensor:
    """Drawings in one style, or in all others in turn."""
    styles = torch.tensor([(style if style is not None else [s for s in range(8) if s != NEON][i % 7]) for i in range(count)])
    return draw(torch.arange(count) % 8, styles, seed)


# --- the threshold -------------------------------------------------------------------------------------------------------------


def test_the_threshold_lies_in_the_middle_of_the_gap():
    found = calibrate("neon", [5, 6, 7, 8], [1, 2, 3, 4])
    assert (found.threshold, found.seen_with, found.seen_without) == (4.5, 1.0, 0.0)
    assert (found.concept, found.images_with, found.images_without) == ("neon", 4, 4)


def test_the_threshold_is_the_best_of_all():
    generator = torch.Generator().manual_seed(0)
    having, lacking = ((torch.randn(n, generator=generator) + shift).tolist() for n, shift in ((30, 1.0), (20, 0.0)))
    found = calibrate("neon", having, lacking)

    def shares(threshold: float) -> tuple[float, float]:
        return sum(s >= threshold for s in having) / 30, sum(s >= threshold for s in lacking) / 20

    assert (found.seen_with, found.seen_without) == shares(found.threshold)
    best = max(a - b for a, b in map(shares, [*having, *lacking]))
    assert found.seen_with - found.seen_without == pytest.approx(best)


def test_of_equal_thresholds_the_one_in_the_widest_gap_is_taken():
    # Above 2 and above 4 both separate by 3/4; the gap from 4 to 9 is wider than that from 2 to 3.
    assert calibrate("neon", [3, 9, 10, 11], [0, 1, 2, 4]).threshold == 6.5


@pytest.mark.parametrize(("having", "lacking"), [([1, 2, 3, 4], [1, 2, 3, 4]), ([1, 2, 3, 4], [5, 6, 7, 8]), ([1.0] * 9, [1.0] * 9)])
def test_scores_that_tell_nothing_have_no_threshold(having, lacking):
    assert calibrate("neon", having, lacking).threshold is None


def test_calibration_images_are_none_of_an_evaluation():
    concept = tiny.concept()
    having, lacking = calibration_shots(concept, 12)
    assert (len(having), len(lacking)) == (12, 12)
    assert {s.prompt.labels["style"] for s in having} == {"neon"}
    assert not any(s.prompt.labels.get("style") == "neon" for s in lacking)
    siblings = {m.name for m in concept.vocabulary.kinds["style"].members if m.family == concept.member.family}
    assert sum(s.prompt.labels.get("style") in siblings for s in lacking) == 6
    seeds = [s.noise_seed for s in (*having, *lacking)]
    assert len(set(seeds)) == 24
    assert not set(seeds) & {s.noise_seed for s in plan(concept, Protocol())}


class Scores:
    """A scorer of images by their mean."""

    name, weights, measures = "mean", "w", "mean"

    def __call__(self, images, concept):
        return images.float().mean((1, 2, 3)), None

    def confidence(self, score):
        return score / 255


def grey(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)


def test_a_judge_sees_what_scores_above_its_threshold():
    asked = []

    def base_model(shots):
        asked.append(len(shots))
        yield grey([200 if s.prompt.labels.get("style") == "neon" else 100 for s in shots])

    judge = ThresholdJudge(Scores(), 8).on(base_model)
    concept = tiny.concept()
    said = judge(grey([100, 149, 150, 201]), concept)
    assert said.seen == {"style": (NOTHING, NOTHING, "neon", "neon")}
    assert said.confidence["style"] == pytest.approx((100 / 255, 149 / 255, 150 / 255, 201 / 255))
    assert said.scores == tuple({"mean": float(v)} for v in (100, 149, 150, 201))
    [found] = judge.calibrations
    assert (found.pop("concept"), found.pop("threshold"), found.pop("images_with"), found.pop("images_without")) == ("neon", 150.0, 8, 8)
    assert found == {"seen_with": 1.0, "seen_without": 0.0}
    assert (judge.chance(concept), judge.knows("neon", concept), judge.knows("dots", concept)) == (0.0, True, False)
    assert asked == [8, 8]  # once


def test_a_judge_that_cannot_tell_sees_the_concept_nowhere():
    judge = ThresholdJudge(Scores(), 8).on(lambda shots: [grey([100] * len(shots))])
    assert judge(grey([0, 255]), tiny.concept()).seen == {"style": (NOTHING, NOTHING)}


def test_without_a_base_model_there_is_no_threshold():
    with raises_error("not-calibrated", "mean"):
        ThresholdJudge(Scores(), 8)(grey([1]), tiny.concept())


# --- reference images ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def neon(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A judge of neon style by six drawings and a random network."""
    at = tmp_path_factory.mktemp("neon")
    (at / "examples").mkdir()
    for i, drawing in enumerate(drawings(NEON, 6, 1)):
        Image.fromarray(drawing.permute(1, 2, 0).numpy()).save(at / "examples" / f"{i}.png")
    return f"reference:{at / 'examples'},model={small.dinov2(at / 'dinov2')},nearest=2,calibration=16"


def test_an_image_scores_its_mean_cosine_to_the_nearest_examples(neon: str):
    judge = load_judge(neon)
    assert judge.name == neon
    scores, features = judge.scorer(IMAGES, tiny.concept())
    net = load_network("FDD", judge.name.split("model=")[1].split(",")[0], torch.device("cpu"))
    examples = net(drawings(NEON, 6, 1))
    cosines = torch.tensor([[float(torch.cosine_similarity(a, b, dim=0)) for b in examples] for a in net(IMAGES)])
    expected = [sum(sorted(row, reverse=True)[:2]) / 2 for row in cosines.tolist()]
    assert scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(features, net(IMAGES), atol=1e-6)


def test_examples_judge_drawings(neon: str):
    """Calibrated on drawings, it tells others: the errors on images that it was not calibrated on are reported."""
    judge = load_judge(neon).on(
        lambda shots: [drawings(NEON if shots[0].probe == "target" else None, len(shots), 7)]
    )  # as a base model would render
    said = judge(torch.cat([drawings(NEON, 24, 11), drawings(None, 24, 12)]), tiny.concept()).seen["style"]
    assert said[:24].count("neon") >= 20
    assert said[24:].count("neon") <= 6


def test_a_folder_without_examples_is_refused(tmp_path: Path, neon: str):
    (tmp_path / "empty").mkdir()
    with raises_error("no-examples", str(tmp_path / "empty")):
        load_judge({"name": "reference", "pictures": str(tmp_path / "empty"), "model": neon.split("model=")[1].split(",")[0]})


def test_an_evaluation_by_examples_reports_its_errors_and_its_threshold(neon: str, tmp_path: Path):
    store = Store(tmp_path / "store")
    run = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=store)
    few, fresh, sampler = Protocol(target_seeds=1, prompts=2), tiny.session(cache=store), tiny.model().default_sampler
    plain, counted = (count_images(run, fresh, few, sampler, calibrating=n) for n in (0, 16))
    assert [b - a for a, b in zip(plain, counted, strict=True)] == [32, 32]
    rows = evaluate(run, tiny.model(), judge=neon, protocol=few, cache=store, metrics=["UA", "IRA", "FID_base"])
    assert {r.metric for r in rows if r.judge == neon} == {"UA", "FID_base"}  # it knows no other style
    [judge] = json.loads((run.folder / "evaluation" / "evaluation.json").read_text())["judges"]
    [calibration], [rates] = judge["calibration"], judge["error_rates"]
    assert (calibration["concept"], calibration["images_with"], calibration["images_without"]) == ("neon", 16, 16)
    threshold = float("inf") if calibration["threshold"] is None else calibration["threshold"]
    samples = read_samples(run.folder)
    assert all((s.base["style"] == "neon") is (s.base_scores["similarity"] >= threshold) for s in samples)
    wrong = [s.base["style"] != "neon" for s in samples if s.probe in ("target", "synonyms")]
    assert rates["false_negative"]["value"] == pytest.approx(sum(wrong) / len(wrong))
    assert count_images(run, fresh, few, sampler, calibrating=16) == (0, counted[1])  # what was announced is what was sampled


def test_a_stopping_rule_calibrates_its_judge_before_the_first_step(neon: str):
    [check] = Gone(judge=neon, pictures=1).start(tiny.model(), tiny.concept()).concepts
    assert check.judge.calibrations[0]["images_with"] == 16


def test_an_audit_calibrates_when_it_runs_and_not_when_it_is_planned(neon: str, tmp_path: Path):
    store = Store(tmp_path / "store")
    run = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=store)
    budget = make_budget({"pictures": 1, "attacks": [{"name": "few-shot", "steps": 1, "batch_size": 1, "pictures": 1}]}, "x")
    battery = prepare(run, budget, model=tiny.model(), judge=neon, cache=store)
    [judge] = battery.judges["neon"]
    assert len(battery.missing()) == len(battery.cells)
    assert judge.calibrations == []
    first = next(battery.run())
    assert first.error == ""
    assert judge.calibrations[0]["images_with"] == 16
    assert judge.chance(tiny.concept()) == judge.calibrations[0]["seen_without"]


# --- vision-language models ----------------------------------------------------------------------------------------------------

ANSWERS = ["yes", "Yes", "no", "No", "NO"]
WORDS = ["[UNK]", "<image>", *ANSWERS, "Does", "this", "picture", "show", "neon", "style", "?", "Answer", "or", ".", "USER", "ASSISTANT"]
TEMPLATE = (
    "{% for message in messages %}USER {% for part in message['content'] %}{% if part['type'] == 'image' %}<image> {% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT"
)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random LLaVA."""
    at = tmp_path_factory.mktemp("vlm")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[UNK]", additional_special_tokens=["<image>"])
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    how = {"patch_size": 16, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    LlavaProcessor(images, fast, chat_template=TEMPLATE, **how).save_pretrained(at)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=16), text_config=LlamaConfig(**sizes, vocab_size=len(WORDS)),
        image_token_index=1, vision_feature_layer=-1,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(at)
    return str(at)


def test_a_vlm_scores_an_image_by_the_odds_of_yes_over_no(vlm: str):
    judge = load_judge({"name": "vlm", "model": vlm, "batch": 2})
    assert judge.name == f"vlm:{vlm},batch=2"
    scores, features = judge.scorer(IMAGES, tiny.concept())
    net, processor = LlavaForConditionalGeneration.from_pretrained(vlm).eval(), LlavaProcessor.from_pretrained(vlm)
    expected = []
    for image in IMAGES:
        text = "USER <image> Does this picture show neon style? Answer yes or no. ASSISTANT"
        with torch.no_grad():
            logits = net(**processor(images=[image], text=[text], return_tensors="pt")).logits[0, -1]
        odds = logits[[2, 3]].logsumexp(0) - logits[[4, 5, 6]].logsumexp(0)
        expected.append(float(odds))
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert features is None
    assert judge.scorer.confidence(0.0) == 0.5
    assert judge.scorer.confidence(expected[0]) == pytest.approx(1 / (1 + 2.718281828 ** -expected[0]))
    assert len(set(scores.tolist())) == 5


def test_a_vlm_without_a_conversation_reads_the_question_after_the_image(vlm: str, monkeypatch: pytest.MonkeyPatch):
    judge = load_judge(f"vlm:{vlm}")
    asked = []
    monkeypatch.setattr(judge.scorer, "processor", lambda **given: asked.append(given))
    monkeypatch.setattr(judge.scorer.processor, "image_token", "<image>", raising=False)
    judge.scorer._inputs(IMAGES[:2], "Is it?")
    assert asked[0]["text"] == ["<image>Is it?"] * 2
    assert [[p.size for p in of] for of in asked[0]["images"]] == [[(32, 32)]] * 2


def test_a_vlm_is_calibrated_for_any_concept(vlm: str):
    concept = Concept.find("Greg Rutkowski", Vocabulary.general(), kind="style")
    judge = load_judge(f"vlm:{vlm},calibration=8").on(lambda shots: [torch.zeros(len(shots), 3, 32, 32, dtype=torch.uint8)])
    judge.check(concept)
    assert judge(IMAGES, concept).seen == {"style": (NOTHING,) * 5}  # a random network cannot tell, so it sees it nowhere


@pytest.mark.parametrize(
    ("given", "rule", "value"),
    [
        ({"model": "x", "question": "Is it?"}, "question-without-concept", "Is it?"),
        ({"model": "x", "calibration": 2}, "invalid-setting", 2),
        ({}, "invalid-setting", {}),
        ({"model": "/nowhere/at/all"}, "unreadable-judge", "/nowhere/at/all"),
    ],
)
def test_a_vlm_that_cannot_be_asked_is_refused(given, rule, value):
    with raises_error(rule, value):
        load_judge({"name": "vlm", **given})


def test_a_vlm_without_a_token_for_no_is_refused(vlm: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("expunge.evaluation.judges.vlm.SPELLINGS", (("yes",), ("nope",)))
    with raises_error("unreadable-judge", vlm):
        load_judge({"name": "vlm", "model": vlm, "batch": 3})
