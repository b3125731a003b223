"""Class-conditional models: a prompt names a class by name or number, and every part of the package reads it so."""

import copy
import json

import pytest
import tiny
import torch
from diffusers import DDIMPipeline, DDPMPipeline, UNet2DModel
from raising import raises_error

from expunge.attacks.base import Victim
from expunge.attacks.inversion import Inversion
from expunge.attacks.relearn import Relearn
from expunge.cli.app import main
from expunge.concepts.concept import Concept
from expunge.concepts.labels import label_vocabulary, names_of
from expunge.concepts.tables import concept_from, concept_table
from expunge.errors import Inapplicable
from expunge.evaluation.information.interview import Meter
from expunge.evaluation.information.retention import measure_information
from expunge.models.defaults import defaults_of
from expunge.models.delta import swapped
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.models.scopes import SCOPES
from expunge.runs.compose import compose
from expunge.runs.export import write_difference, write_lora
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import unlearn
from expunge.training.anything import OtherNames, anything, other_words
from families import dit, unet_2d

KINDS = {"dit": dit, "unet-2d": unet_2d}
METHODS = ("mim-mu", "esd", "dimum", "salun", "ca", "erase-diff", "spm", "supplant")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_samples_are_those_of_diffusers(kind: str, guidance: float):
    module, prompts = KINDS[kind], ["label:0", "label:2"]
    model = module.model()
    noise = model.noise([1, 2])
    ours = model.sample_latents(model.encode(prompts), [1, 2], Sampler(3, guidance))
    theirs = module.sample(model.pipeline, prompts, noise.clone(), 3, guidance, "latent")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    images = module.sample(model.pipeline, prompts, noise.clone(), 3, guidance, "pt")
    torch.testing.assert_close(model.decode(ours).float() / 255, images, rtol=0, atol=0.5 / 255 + 1e-5)
    assert (ours[0] - model.sample_latents(model.encode(["label:1"]), [1], Sampler(3, guidance))[0]).abs().mean() > 1e-4


def test_dit_samples_what_its_own_pipeline_samples_without_guidance():
    model = dit.model()
    theirs = model.pipeline([0, 2], 1.0, torch.Generator().manual_seed(3), 3, output_type="pt").images
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    ours = dit.sample(model.pipeline, ["label:0", "label:2"], noise, 3, 1.0, "pt")
    torch.testing.assert_close(ours, theirs)


def test_a_dit_that_was_being_trained_drops_no_labels():
    pipeline = dit.pipeline()
    pipeline.transformer.train()
    model = load(pipeline)
    first, *others = (model.sample_latents(model.encode(["label:0"]), [1], Sampler(1, 1.0)) for _ in range(12))
    assert all(torch.equal(first, other) for other in others)


def test_a_class_goes_by_name_and_by_number():
    model = unet_2d.model()
    by_name, by_number = model.encode(["label:Big  Ship"]), model.encode(["label:2"])
    assert by_name.extra["label"].tolist() == by_number.extra["label"].tolist() == [2]
    assert model.null().extra["label"].tolist() == [len(unet_2d.LABELS)]
    assert by_name.states.argmax(2).tolist() == [[2]]
    concept = Concept.find("label:2", model.defaults.vocabulary())
    assert concept == Concept.find("big ship", model.defaults.vocabulary())
    assert [p.prompt for p in concept.forget()] == ["label:big ship"]
    assert concept.retain() == ["label:cat", "label:dog", "label:plane", ""]
    assert concept_from(json.loads(json.dumps(concept_table(concept)))) == concept
    with raises_error("unknown-concept", "label:4"):
        Concept.find("label:4", model.defaults.vocabulary())
    with raises_error("unknown-label", "label:cow", "label:"):
        model.encode(["label:cow"])
    with raises_error("unknown-label", "a cat"):
        model.encode(["a cat"])


@pytest.mark.parametrize(("target", "anchor", "becomes"), [("cat", None, "dog"), ("plane", None, "cat"), ("cat", "label:plane", "plane")])
def test_a_class_becomes_the_next_one_unless_an_anchor_is_given(target: str, anchor: str | None, becomes: str):
    concept = Concept.find(target, label_vocabulary(unet_2d.LABELS), anchor=anchor)
    [prompt] = concept.forget()
    assert (prompt.anchor, prompt.context) == (f"label:{becomes}", "")
    assert target not in {m.removeprefix("label:") for m in prompt.marginals}


def test_names_are_unique_and_the_number_where_there_is_none():
    assert names_of({0: ["crane", "heron"], 1: ["crane"], 3: [" big  ship"]}, 4) == ("crane", "1", "2", "big ship")
    assert dit.model().labels == ("tench", "1", "crane")


@pytest.mark.parametrize("save_as", [DDPMPipeline, DDIMPipeline])
def test_a_folder_has_its_labels(tmp_path, save_as):
    model, made = unet_2d.model(1), unet_2d.pipeline(1)
    save_as(made.unet, made.scheduler).save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.labels == unet_2d.LABELS
    assert loaded.fingerprint == model.fingerprint
    assert defaults_of(str(tmp_path / "model")).vocabulary() == loaded.defaults.vocabulary()
    assert loaded.sample(["label:dog"], [1], Sampler(2, 1.5)).shape == (1, 3, 8, 8)
    images = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8).expand(-1, 3, -1, -1)
    assert torch.equal(loaded.decode(loaded.encode_images(images)), images)


def test_a_folder_of_dit_has_its_labels(tmp_path):
    dit.pipeline().save_pretrained(tmp_path / "model")
    assert defaults_of(str(tmp_path / "model")).vocabulary() == load(tmp_path / "model").defaults.vocabulary()


def test_networks_without_classes_or_without_a_null_class_are_refused():
    pipeline = unet_2d.pipeline()
    config = {k: v for k, v in pipeline.unet.config.items() if not k.startswith("_")}
    with raises_error("unsupported-network"):
        load(DDPMPipeline(UNet2DModel.from_config(config | {"num_class_embeds": None}), pipeline.scheduler))
    with raises_error("no-null-class", 4):
        load(DDPMPipeline(UNet2DModel.from_config(config | {"num_class_embeds": 4}), pipeline.scheduler))


@pytest.mark.parametrize("kind", KINDS)
def test_scopes_part_the_network(kind: str):
    model = KINDS[kind].model()
    names = {name: set(model.scope(scope)) for name, scope in SCOPES.items() if name != "xattn-lora"}
    assert names["xattn-kv"] < names["xattn"] < names["full"]
    assert names["xattn"] | names["non-xattn"] == names["full"]
    assert not names["xattn"] & names["non-xattn"]
    tables = {name for name in names["xattn-kv"] if model.network.get_parameter(name).ndim == 2}
    assert set(model.scope(SCOPES["xattn-lora"])) == {n for n in names["xattn"] - tables if n.endswith(".weight")}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_on_labels_and_changes_its_scope_alone(method: str, tmp_path):
    model = unet_2d.model()
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    run = unlearn(model, "label:2", method, training=tiny.TRAINING, out=tmp_path / "run", device="cpu")
    scope = make_plan(model, "label:2", method).method.scope
    delta = run.delta(model.fingerprint)
    assert set(delta) == set(model.scope(scope))
    assert any(not torch.equal(delta[n], before[n]) for n in delta)
    assert all(torch.equal(p, before[n]) for n, p in model.network.named_parameters())
    assert (run.card["model"]["family"], run.concept().target) == ("unet-2d", "big ship")


def test_a_closed_form_moves_the_row_of_the_class_alone(tmp_path):
    """Labels are orthogonal, so the minimum of UCE moves one row towards the anchor's, by a / (a + ridge)."""
    model = unet_2d.model()
    before = model.network.class_embedding.weight.detach().clone()
    run = unlearn(model, "label:2", "uce", erase_weight=2.0, ridge=0.5, out=tmp_path / "run", device="cpu")
    [table] = run.delta(model.fingerprint).values()
    torch.testing.assert_close(table[2], (2 * before[3] + 0.5 * before[2]) / 2.5)
    torch.testing.assert_close(table[[0, 1, 3, 4]], before[[0, 1, 3, 4]])


def test_methods_and_attacks_that_read_words_refuse(tmp_path):
    model = unet_2d.model()
    with raises_error("no-attention-maps", "unet-2d"):
        make_plan(model, "label:2", "fmn")
    victim = Victim(tiny.session(model), Concept.find("cat", model.defaults.vocabulary()), pictures=2)
    with pytest.raises(Inapplicable):
        list(Inversion(steps=1)(victim))


def test_relearning_and_the_information_meter_read_labels(tmp_path):
    model = unet_2d.model()
    run = unlearn(model, "label:2", "dimum", training=tiny.TRAINING, out=tmp_path / "run", device="cpu")
    victim = Victim(tiny.session(model), run.concept(), run.delta(model.fingerprint), pictures=3)
    readings = list(Relearn(steps=2, pictures=4, batch_size=2)(victim))
    assert [r.strength for r in readings] == [0, 2]
    assert readings[0].cond.keys == ("label:big ship",) * 3
    assert any(not torch.equal(readings[1].weights[n], w) for n, w in victim.delta.items())
    assert measure_information(run, model, meter=Meter(pictures=4, target_pictures=4, draws=2, others=1, maps=0), device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_form_moves_a_class_to_its_anchor_and_no_other(kind: str, tmp_path):
    """A table of embeddings is the matrix that reads a label."""
    model = KINDS[kind].model()
    name = next(n for n in model.scope(SCOPES["entrance"]) if n.endswith("weight"))
    before = model.network.get_parameter(name).detach().clone()
    concept = Concept.find("label:1", model.defaults.vocabulary())
    after = unlearn(model, concept, "uce", preserve_weight=1.0, ridge=1e-6, out=tmp_path / "run", device="cpu").delta()[name]
    [forgotten] = concept.forget()
    torch.testing.assert_close(after[1], before[model.number_of(forgotten.anchor)], rtol=0, atol=1e-4)
    others = [i for i in range(len(before)) if i != 1]
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_a_closed_form_compose_on_tables(kind: str, tmp_path):
    """Composed runs are what the second one does to a network that the first one left."""
    model = KINDS[kind].model()
    first, second = (unlearn(model, f"label:{i}", "uce", out=tmp_path / str(i), device="cpu") for i in (0, 2))
    made = compose([first, second], tmp_path / "both", model).delta()
    with swapped(model.network, first.delta()):
        pipeline = copy.deepcopy(model.pipeline)
    after = unlearn(pipeline, "label:2", "uce", out=tmp_path / "after", device="cpu").delta()
    assert made.keys() == after.keys()
    for name, table in made.items():
        torch.testing.assert_close(table, after[name], rtol=0, atol=1e-5)
        assert not torch.allclose(table, first.delta()[name])
        assert not torch.allclose(table, second.delta()[name])


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line_lists_classes_and_writes_no_lora_of_them(kind: str, tmp_path, capsys):
    KINDS[kind].pipeline().save_pretrained(folder := tmp_path / "model")
    assert main(["ls", "concepts", "--model", str(folder)]) == 0
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed for name in load(folder).labels)
    run = unlearn(folder, "label:0", "uce", out=tmp_path / "run", device="cpu")
    for write in (write_lora, write_difference):
        with raises_error("lora-of-labels", KINDS[kind].model().family, "expunge merge"):
            write(folder, run, tmp_path / "file.safetensors")
    assert not (tmp_path / "file.safetensors").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_random_prompts_are_labels_of_other_classes(kind: str):
    model = KINDS[kind].model()
    concept = Concept.find("label:1", label_vocabulary(model.labels))
    prompts = anything(model, concept, OtherNames.of(model, concept, 0), ["label:1"] * 64, 0)
    others = {f"label:{label}" for number, label in enumerate(model.labels) if number != 1}
    assert set(prompts) == {"", *others}
    assert set(other_words(model, concept, OtherNames.of(model, concept, 0), ["label:1"] * 64, 0)) == others


def test_a_model_with_one_class_has_no_random_prompts():
    model = dit.model()
    model.labels = ("thing",)
    with raises_error("no-words-for-prompts", ["thing"]):
        OtherNames.of(model, Concept.find("label:thing", label_vocabulary(model.labels)), 0)
