"""Every published protocol, run on tiny models and on files of our own in the form of the published ones."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from bench.conftest import Coin, stand_ins
from bench.miniatures import english_pipeline, write_csv
from cli.commandline import Said, say
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from evaluation import networks
from PIL import Image
from raising import raises_error

from expunge.bench.config import make_suite, read_suite
from expunge.bench.published import builtin, missing_needs
from expunge.concepts.concept import Concept
from expunge.concepts.prompt_file import ListedPrompt, read_prompts
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judge_settings import ByKind
from expunge.evaluation.judges import Judgement, load_judge
from expunge.evaluation.judges.by_kind import JudgeByKind
from expunge.evaluation.results import Row

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COLUMNS = ("prompt", "evaluation_seed", "evaluation_guidance")
LISTED = [("someone by the sea", 7, 1), ("a walk, at night", 8, 1), ("word " * 90, 9, 2)]
"""With two scales of guidance, and a prompt that is too long."""
PUBLISHED = {"cifar10-ddpm", "coco-10k", "fine-grained", "i2p", "imagenette", "mma", "ring-a-bell", "unlearncanvas", "unlearndiffatk"}


class Detector(Coin):
    """Sees what a coin sees, and one to three parts in each picture."""

    parts, threshold = frozenset({"FEET_EXPOSED", "BELLY_EXPOSED"}), 0.5

    def __call__(self, images: torch.Tensor, concept: Concept) -> Judgement:
        said = super().__call__(images, concept)
        found = {"FEET_EXPOSED": 0.9, "FEET_EXPOSED 2": 0.6, "BELLY_EXPOSED": 0.4, "FACE_MALE": 0.9}
        return Judgement(said.seen, said.features, said.confidence, tuple(found for _ in images))


@dataclass(frozen=True)
class Miniature:
    """A protocol in small: fewer concepts, images and steps, and files of our own."""

    table: Mapping[str, Any]
    data: Mapping[str, Path]
    label: bool = False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models."""
    made = tmp_path_factory.mktemp("models")
    english_pipeline(made / "words").save_pretrained(made / "sd", safe_serialization=True)
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"), attention_head_dim=8, num_class_embeds=len(CIFAR10) + 1,
    )  # fmt: skip
    network.register_to_config(id2label=dict(enumerate(CIFAR10)))
    DDPMPipeline(network, DDIMScheduler()).save_pretrained(made / "ddpm", safe_serialization=True)
    return made


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Miniature]:
    made = tmp_path_factory.mktemp("files")
    listed = write_csv(made / "prompts.csv", COLUMNS, LISTED)
    lines = [{"prompt": text, "evaluation_seed": seed} for text, seed, _ in LISTED]
    (made / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    pictures = made / "pictures"
    pictures.mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(pictures / f"{i}.png")
    inception = Path(networks.scripted(networks.Inception(), made / "inception.pt"))
    real = {"pictures": pictures, "inception": inception}
    mma = write_csv(made / "mma.csv", ("target_prompt", "adv_prompt", "sanitized_adv_prompt"), [("a", "b qzx", "b"), ("c", "d", "d")])
    wording = {"attacks": [{"name": "wording", "form": "paraphrases"}], "pictures": 2}
    return {
        "unlearncanvas": Miniature({"concepts": ["Van Gogh", {"targets": ["Monet", "Dogs"], "together": "sequential"}]}, real),
        "fine-grained": Miniature({"concepts": ["Blue Jay"]}, {}),
        "imagenette": Miniature({"concepts": ["tench"]}, {}),
        "i2p": Miniature({}, {"i2p": listed}),
        "unlearndiffatk": Miniature(
            {"concepts": ["nudity", "church"], "judges": {}, "audit": {"budget": wording}}, {"nudity": listed, "church": listed}
        ),
        "ring-a-bell": Miniature({}, {"violence-k38": made / "prompts.jsonl"}),
        "mma": Miniature({}, {"adversarial": mma, "sanitised": mma}),
        "coco-10k": Miniature({"features": {"CLIP_score": networks.clip(made / "clip")}}, {"coco": listed, **real}),
        "cifar10-ddpm": Miniature(
            {
                "concepts": ["ship"],
                "methods": [{"name": "random-label", "training": {"steps": 1, "batch_size": 2, "points": 2, "pictures": 2}}],
            },
            {},
            label=True,
        ),
    }


@dataclass(frozen=True)
class Done:
    out: Path
    said: Said

    @property
    def rows(self) -> list[Row]:
        lines = (self.out / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        return [Row(**{k: v for k, v in json.loads(line).items() if k != "label"}) for line in lines]

    @property
    def page(self) -> str:
        return (self.out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def done(folder: Path, miniatures: dict[str, Miniature], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Done]:
    """Gives a protocol after a run, which is made when it is first asked for."""
    made = tmp_path_factory.mktemp("done")

    @cache
    def run(name: str) -> Done:
        mini, file = miniatures[name], made / f"{name}.toml"
        own = {"labels": [], "methods": [{"name": "uce", "label": "UCE"}], "protocol": {"prompts": 2}, **mini.table}
        file.write_text(tomli_w.dumps({"like": name, "sampler": {"steps": 1, "guidance_scale": 1}, **own}), encoding="utf-8")
        data = [o for n, path in mini.data.items() for o in ("--data", f"{n}={path}")]
        model = folder / ("ddpm" if mini.label else "sd")
        with pytest.MonkeyPatch.context() as patch:
            stand_ins(patch)
            for place in ("evaluation.evaluate", "bench.runner", "audits.setup"):
                patch.setattr(f"expunge.{place}.judges_for", lambda *asked: (Detector(),))
            said = say("bench", file, "--out", made / name, "--model", model, "--judge", "main", "--device", "cpu", *data)
        return Done(made / name, said)

    return run


def test_every_protocol_is_read_and_says_what_it_needs():
    assert set(builtin()) == PUBLISHED | {"canvas", "several"}
    for name in PUBLISHED:
        suite = read_suite(name)
        assert all((suite.about.papers, suite.about.differs)), name
        assert any(n.option == "--model FOLDER" for n in missing_needs(suite)), name
        assert all(len(sha) == 64 for entry in suite.data.values() for sha in entry.digests), name


def test_class_and_style_names_are_those_of_the_data_sets():
    kinds = {name: read_suite(name).concepts[0].parts[0].vocabulary.kinds for name in ("unlearncanvas", "fine-grained", "imagenette")}
    counts = {name: {kind: len(of.members) for kind, of in found.items()} for name, found in kinds.items()}
    assert counts == {
        "unlearncanvas": {"style": 50, "object": 20},
        "fine-grained": {"dog": 120, "flower": 102, "bird": 200},
        "imagenette": {"object": 10},
    }
    spaniel = next(c for c in read_suite("fine-grained").concepts if c.target == "Welsh springer spaniel")
    assert {m.name for m in spaniel.parts[0].siblings} >= {"cocker spaniel", "Sussex spaniel"}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_protocol_runs_offline(done: Callable[[str], Done], name: str):
    found = done(name)
    assert found.said.code == 0, found.said.err
    assert {r.run == "base" for r in found.rows} == {True, False}
    assert "Not the same machine" in found.page
    assert "judge main" not in found.said.err
    assert "Not the same machine" in (found.out / "table.md").read_text(encoding="utf-8")


def test_a_list_gives_the_published_numbers_by_model(done: Callable[[str], Done]):
    rows = {(r.metric, r.run == "base"): r for r in done("i2p").rows}
    assert {m for m, _ in rows} == {"ASR on i2p", "parts on i2p", "FEET_EXPOSED on i2p", "BELLY_EXPOSED on i2p"}
    # Two detections of feet in each of three pictures; those of the belly are below the threshold, and a face is no part that counts.
    assert [rows[m, False].value for m in ("parts on i2p", "FEET_EXPOSED on i2p", "BELLY_EXPOSED on i2p")] == [6.0, 6.0, 0.0]
    asr = rows["ASR on i2p", False]
    assert (asr.n, asr.judge, asr.concept, rows["ASR on i2p", True].method) == (3, "main", "nudity", "none")
    labels = [json.loads(line) for line in next(done("i2p").out.glob("runs/*/evaluation/lists/i2p.jsonl")).read_text().splitlines()]
    assert [line["seed"] for line in labels] == [7, 8, 9]
    assert len(labels[2]["prompt"].split()) < 40
    assert sum(line["run"]["seen"] == "nudity" for line in labels) == round(3 * asr.value)


def test_quality_is_measured_by_networks_and_without_a_judge(done: Callable[[str], Done]):
    rows = {(r.metric, r.run == "base"): r for r in done("coco-10k").rows}
    assert {m for m, _ in rows} == {"CLIP_score on coco", "FID on coco"}
    assert all((r.judge, r.n) == ("none", 3) and r.ci_low <= r.value <= r.ci_high for r in rows.values())
    assert not list(done("coco-10k").out.glob("runs/*/evaluation/lists/*"))
    assert "17.1" in done("coco-10k").page  # FID of UCE
    assert {r.metric for r in done("unlearncanvas").rows} >= {"UA", "IRA", "CRA", "FID"}


def test_a_list_is_for_its_concept_alone(done: Callable[[str], Done]):
    found = {(r.concept, r.metric) for r in done("unlearndiffatk").rows if r.attack == "none"}
    assert found == {("nudity", "ASR on nudity"), ("church", "ASR on church")}
    assert {r.concept for r in done("unlearndiffatk").rows if r.metric == "ASR"} == {"nudity", "church"}  # attacked


def test_units_without_data_are_left_out_and_said_so(done: Callable[[str], Done]):
    assert "nothing to measure on 1 of 2 units" in done("ring-a-bell").said.out
    assert {r.metric for r in done("ring-a-bell").rows} == {"ASR on violence-k38"}


def test_published_numbers_stand_beside_ours(done: Callable[[str], Done]):
    page = done("unlearndiffatk").page
    assert "79.6" in page
    assert "21.8" in page
    assert page.count("README of github.com/OPTML-Group/Diffusion-MU-Attack") == 1
    measured = page[page.index('id="published"') :]
    assert measured.index(">UCE<") < measured.index(">erase-diff<")  # what was measured comes first
    table = (done("unlearncanvas").out / "table.md").read_text(encoding="utf-8")
    ours = next(r for r in done("unlearncanvas").rows if r.metric == "UA" and r.concept == "Van Gogh" and r.run != "base")
    assert "| UCE, 2 in sequence | – | FID |" not in table
    line = next(li for li in table.splitlines() if li.startswith("| UCE | style | UA |"))
    assert [cell.strip() for cell in line.split("|")][4:6] == [f"{ours.value:.4g} (judge unfit)", "0.984"]


def test_digests_are_recorded_and_another_file_is_named(done: Callable[[str], Done]):
    recorded = json.loads((done("i2p").out / "data.json").read_text())
    assert [(d["name"], d["rows"], len(d["sha256"])) for d in recorded] == [("i2p", 3, 64)]
    assert "not the published data: 3 prompts instead of 4,703" in done("i2p").page


def test_a_dry_run_says_what_is_missing_and_the_price():
    said = say("bench", "i2p", "--dry-run")
    assert said.code == 0, said.err
    for words in (
        "missing",
        "--model FOLDER",
        "--data i2p=FILE",
        "(4,703 prompts)",
        "github.com/rohitgandikota/erasing",
        "4,703 images of the base model and 32,921 of runs",
        "100 forwards",
    ):
        assert words in said.out, words


def test_a_run_without_what_it_needs_is_refused(tmp_path: Path):
    said = say("bench", "ring-a-bell", "--model", tmp_path)
    assert said.code == 2
    assert "--data NAME=FILE" in said.err
    assert "--dry-run" in said.err


def test_protocols_are_listed():
    said = say("ls", "protocols")
    assert all(name in said.out for name in builtin())
    assert "arXiv 2402.11846" in said.out


@pytest.mark.parametrize(
    ("table", "given", "rule"),
    [
        ({"data": {"a": {"kind": "prompts", "metrics": ["FOO"]}}}, {}, "unknown-metric"),
        ({"data": {"a": {"kind": "prompts", "concepts": ["rign"]}}}, {}, "unknown-concept"),
        ({"data": {"a": {"kind": "prompts", "pictures": "b"}}}, {}, "unknown-data"),
        ({"data": {}}, {"data": {"b": "x.csv"}}, "unknown-data"),
        ({"judges": {"rign": "main"}}, {}, "unknown-concept"),
        ({"reported": [{"source": "s", "metrics": ["UA", "IRA"], "values": {"uce": [1.0]}}]}, {}, "reported-row"),
    ],
)
def test_a_protocol_with_a_mistake_is_refused(table: dict, given: dict, rule: str):
    with raises_error(rule):
        make_suite({"concepts": ["neon"], "methods": [{"name": "uce"}], **table}, "s", given=given)


def test_a_method_may_have_the_settings_of_a_preset():
    table = {
        "concepts": ["neon"],
        "methods": [{"preset": "esd-published", "label": "ESD", "training": {"steps": 7}}, {"preset": "uce-published"}],
    }
    esd, uce = make_suite(table, "s").methods
    assert (esd.name, esd.label, esd.settings["erase_from"], esd.training["steps"], esd.training["lr"]) == (
        "esd",
        "ESD",
        "concept",
        7,
        5e-5,
    )
    assert (uce.name, uce.label, uce.settings["ridge"]) == ("uce", "uce-published", 0.5)
    with raises_error("unknown-preset", "esd-publishd", "esd-published"):
        make_suite({"concepts": ["neon"], "methods": [{"preset": "esd-publishd"}]}, "s")


def test_a_missing_file_is_refused():
    with raises_error("no-such-data", "gone.csv"):
        make_suite({"concepts": ["neon"], "methods": [{"name": "uce"}], "data": {"a": {"kind": "prompts", "file": "gone.csv"}}}, "s")


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("p.parquet", "", "unreadable-prompts"),
        ("p.pkl", "", "unreadable-prompts"),
        ("p.csv", "", "no-prompts"),
        ("p.csv", "text\nhello\n", "csv-header"),
        ("p.csv", "prompt,evaluation_seed\nhello,x\n", "prompt-cell"),
        ("p.jsonl", '{"prompt": "a"}\n', "unreadable-prompts"),
        ("p.jsonl", "[", "unreadable-prompts"),
    ],
)
def test_a_broken_list_of_prompts_says_what_is_wrong(tmp_path: Path, name: str, text: str, rule: str):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with raises_error(rule):
        read_prompts(tmp_path / name, {"seed": "evaluation_seed"})


def test_a_list_is_read_alike_in_every_form(tmp_path: Path):
    write_csv(tmp_path / "p.csv", ("Prompt", "seed"), [("a b", 3), ("c,\r\nd", "")])
    (tmp_path / "p.jsonl").write_text('{"prompt": "a b", "seed": 3}\n\n{"prompt": "c, d", "seed": null}\n', encoding="utf-8")
    (tmp_path / "p.txt").write_text("a b\n\nc, d\n", encoding="utf-8")
    wanted = (ListedPrompt("a b", 3), ListedPrompt("c, d"))
    assert read_prompts(tmp_path / "p.csv", {"seed": "seed"}) == read_prompts(tmp_path / "p.jsonl", {"seed": "seed"}) == wanted
    assert [p.prompt for p in read_prompts(tmp_path / "p.txt", {})] == ["a b", "c, d"]


def test_one_judge_for_each_kind():
    concept = Concept.find("neon", Vocabulary.canvas())
    judge = JudgeByKind({"style": load_judge("main"), "object": load_judge("second")}, "both")
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    said = judge(images, concept)
    styles, objects = (load_judge(name)(images, concept).seen for name in ("main", "second"))
    assert said.seen == {"style": styles["style"], "object": objects["object"]}
    with raises_error("judge-lacks-kind", "style"):
        JudgeByKind({"object": load_judge("main")}, "half").check(concept)
    with raises_error("judge-for-each-kind"):
        ByKind(("style",), ())
