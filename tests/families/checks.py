"""What each model family is checked for. A check is a function of a `Made`; its docstring is its line in docs/reference/models.md."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import tiny
import torch
from invariants.test_runs import Interrupted, stop_after
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from expunge.attacks.base import Victim
from expunge.attacks.inversion import Inversion
from expunge.attacks.relearn import Relearn
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.diffusion.types import Point
from expunge.errors import Inapplicable
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.methods import METHODS
from expunge.models.base import DiffusionModel
from expunge.models.loading import load
from expunge.models.outline import outline
from expunge.models.quiet import quiet
from expunge.models.sampling import Sampler
from expunge.models.scopes import SCOPES, Scope, size_of
from expunge.runs.cost import passes_of, price
from expunge.runs.export import merge, write_lora, write_single_file
from expunge.runs.plan import make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.training import anything, beginning

STEPS = 24
TRAINING = {"batch_size": 2, "points": 16, "pictures": 4, "retain_pictures": 2, "lr": 1e-3, "whiten": 0.0}


@cache
def few() -> Vocabulary:
    """Two families of the canvas's vocabulary: large text encoders read all of its prompts in seconds, even small copies of them."""
    whole = Vocabulary.canvas()
    families = {whole.find(name)[1].family for name in ("neon", "ring")}
    kinds = {name: replace(kind, members=tuple(m for m in kind.members if m.family in families)) for name, kind in whole.kinds.items()}
    return replace(whole, kinds=kinds)


@dataclass
class Made:
    """A tiny model of one family as users have it, a diffusers folder, and what several checks read of it."""

    tiny: Any
    """Of `families.EVERY`."""
    place: Path

    @property
    def prompts(self) -> list[str]:
        return getattr(self.tiny, "PROMPTS", ["a ring in neon style", "dots style"])

    @property
    def concept(self) -> Concept:
        if hasattr(self.tiny, "PROMPTS"):
            return Concept.find(self.tiny.PROMPTS[0], self.loaded.defaults.vocabulary())
        return Concept.find("neon", few())

    @cached_property
    def folder(self) -> Path:
        path = self.place / "model"
        self.tiny.pipeline().save_pretrained(path, safe_serialization=True)
        return path

    @cached_property
    def in_memory(self) -> DiffusionModel:
        """The same without a folder."""
        return self.tiny.model()

    @cached_property
    def loaded(self) -> DiffusionModel:
        return self.adjusted(load(self.folder))

    def adjusted(self, model: DiffusionModel) -> DiffusionModel:
        """With what a pipeline of diffusers keeps outside its files, as the real tokenizer's number of template tokens."""
        made = self.tiny.pipeline()
        for name in ("prompt_template_encode_start_idx", "tokenizer_max_length"):
            if hasattr(made, name):
                setattr(model.pipeline, name, getattr(made, name))
        return type(model)(model.pipeline, model.name, model.files)  # which has encoded nothing yet

    def unlearned(
        self, method: str, name: str, steps: int = 2, watch: Any = None, gradient_checkpointing: bool = False, **settings: Any
    ) -> Run:
        asked = TRAINING | {"steps": steps, "gradient_checkpointing": gradient_checkpointing}
        training = {} if method == "uce" else {"training": asked}
        progress = tiny.watching(watch)
        return unlearn(self.loaded, self.concept, method, out=self.place / name, device="cpu", progress=progress, **training, **settings)

    @cached_property
    def run(self) -> Run:
        """A run that others resume, export, judge and attack."""
        return self.unlearned("mim-mu", "run", steps=STEPS)

    @cached_property
    def low_rank_run(self) -> Run:
        return self.unlearned("mim-mu", "low-rank", variant="xattn-lora")


def loads(made: Made) -> None:
    """loads from a diffusers folder, as the same model that is in memory"""
    model = made.in_memory
    assert made.loaded.fingerprint == model.fingerprint
    ours, theirs = (m.sample_latents(m.encode(made.prompts), [1, 2], Sampler(2, 1.0)) for m in (made.loaded, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)  # a loaded network's convolutions are laid out in another way
    names = {name: set(model.scope(scope)) for name, scope in SCOPES.items()}
    assert names["xattn-kv"] <= names["xattn"] < names["full"]
    assert names["xattn"] | names["non-xattn"] == names["full"]
    assert not names["xattn"] & names["non-xattn"]


def agrees(made: Made, steps: int) -> None:
    model = made.in_memory
    steps = max(steps, 2) if model.pipeline.scheduler.config.get("shift_terminal") else steps  # which divides by steps - 1
    for guidance in (1.0,) if model.guidance == "none" else (1.0, 4.0):
        noise = model.noise([1, 2])
        ours = model.sample_latents(model.encode(made.prompts), [1, 2], Sampler(steps, guidance))
        theirs = made.tiny.sample(model.pipeline, made.prompts, noise.clone(), steps, guidance, "latent")
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    images = made.tiny.sample(model.pipeline, made.prompts, noise.clone(), steps, guidance, "pt")
    torch.testing.assert_close(model.decode(ours).float() / 255, images, rtol=0, atol=0.5 / 255 + 1e-5)
    assert (ours[0] - model.sample_latents(model.encode(made.prompts[1:]), [1], Sampler(steps, guidance))).abs().mean() > 1e-4


def one_step(made: Made) -> None:
    """samples in one step what diffusers' own pipeline samples, within 1e-5, with and without guidance"""
    agrees(made, 1)


def whole_sampling(made: Made) -> None:
    """samples in several steps what diffusers' own pipeline samples, within 1e-5, with and without guidance"""
    agrees(made, 3)


def decodes_what_it_encodes(made: Made) -> None:
    """latents of images are those that it decodes: the scales of the autoencoder are undone"""
    latents = made.loaded.noise([1, 2])
    if "vae" in made.loaded.parts:  # else images are their own latents
        torch.testing.assert_close(made.loaded.from_autoencoder(made.loaded.to_autoencoder(latents)), latents, rtol=1e-5, atol=1e-5)
    images = made.loaded.decode(latents)
    assert images.shape == (2, 3, made.loaded.size, made.loaded.size)
    assert made.loaded.encode_images(images).shape == latents.shape


def method(name: str) -> Callable[[Made], None]:
    def runs(made: Made) -> None:
        before = {n: p.detach().clone() for n, p in made.loaded.network.named_parameters()}
        # Of words and prompts that are read once, for they take long to encode.
        with mock.patch.object(anything, "COMPARED", 16), mock.patch.object(beginning, "RETAINED", 16):
            run = made.unlearned(name, name)
        assert set(run.delta(made.loaded.fingerprint)) == set(made.loaded.scope(METHODS[name]().scope))
        assert run.card["relative_change"] > 0
        assert all(torch.equal(p, before[n]) for n, p in made.loaded.network.named_parameters())

    runs.__doc__ = f"`{name}` runs, and changes its scope alone"
    return runs


def loss_falls(made: Made) -> None:
    """the loss of `mim-mu` falls"""
    losses = [json.loads(line)["terms"]["forget"] for line in (made.run.folder / "log.jsonl").read_text().splitlines()]
    # Eight steps of two points read each of the sixteen points once.
    assert sum(losses[-8:]) < 0.95 * sum(losses[:8])


def low_rank(made: Made) -> None:
    """low-rank factors are trained (`xattn-lora`)"""
    delta = made.low_rank_run.delta(made.loaded.fingerprint)
    assert set(delta) == set(made.loaded.scope(SCOPES["xattn-lora"]))
    base = dict(made.loaded.network.named_parameters())
    changes = [value - base[name] for name, value in delta.items()]
    assert any(change.any() for change in changes)
    assert all(torch.linalg.matrix_rank(change, atol=1e-5) <= SCOPES["xattn-lora"].rank for change in changes)


def checkpointing(made: Made) -> None:
    """gradient checkpointing gives the same gradient, to the last bit; with low rank too"""
    model, plain = made.loaded, made.loaded.encode(made.prompts)
    point = Point(model.noise([1, 2]), torch.tensor([300.0, 900.0]), plain, ("a", "b"))
    weights = list(model.scope(SCOPES["xattn"]).values())

    def gradients(recomputes: bool) -> list[Tensor]:
        with model.as_trained(recomputes):
            found = torch.autograd.grad(model.predict(point).square().mean(), weights, allow_unused=True)
        return [torch.zeros(()) if gradient is None else gradient for gradient in found]

    once, again = gradients(False), gradients(True)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert max(gradient.abs().max() for gradient in once) > 0
    recomputed = made.unlearned("mim-mu", "recomputed", variant="xattn-lora", gradient_checkpointing=True).delta()
    assert all(torch.equal(value, recomputed[name]) for name, value in made.low_rank_run.delta().items())


def resumes(made: Made) -> None:
    """a run that is interrupted and resumed has equal bytes"""
    try:
        made.unlearned("mim-mu", "resumed", steps=STEPS, watch=stop_after(7))
    except Interrupted:
        run = made.unlearned("mim-mu", "resumed", steps=STEPS)
    for file in ("delta.safetensors", "log.jsonl"):
        assert (run.folder / file).read_bytes() == (made.run.folder / file).read_bytes()


def dry_run(made: Made) -> None:
    """`--dry-run` counts the passes of a run, and the operations and memory of a step, from configurations alone"""
    sketch, whole = outline(made.folder, "cpu"), made.loaded
    plan = make_plan(sketch, made.concept, "mim-mu", training=TRAINING | {"steps": STEPS})
    priced = price(plan, tiny.session(sketch))
    assert priced.backwards == made.run.card["backwards"]
    scope = plan.method.scope
    assert size_of(sketch.scope(scope)) == size_of(whole.scope(scope))
    found = passes_of(sketch, scope, 2)
    assert found.both.matmul > found.forward.matmul > 0
    assert found.both_octets > found.forward_octets > 0
    again = outline(made.folder, "cpu")  # of what was kept of the first
    assert (again.rendered_by, again.fingerprint, again.noising) == (sketch.rendered_by, sketch.fingerprint, sketch.noising)
    assert (again.latent_shape, again.size, again.guidance) == (sketch.latent_shape, sketch.size, sketch.guidance)
    assert price(plan, tiny.session(again)) == priced
    for name in whole.scopes:
        assert _shapes(again.scope(Scope(name))) == _shapes(whole.scope(Scope(name)))
    assert passes_of(again, scope, 2) == found
    for reading, kept in zip(sketch.readings, again.readings, strict=True):
        text = "Two rings, neon-style: naïve 東京!"
        assert kept.marks(text, ["neon-style", "rings"]) == reading.marks(text, ["neon-style", "rings"])
        assert [kept.tokenizer(kept.text(text), add_special_tokens=special).input_ids for special in (False, True)] == [
            reading.tokenizer(reading.text(text), add_special_tokens=special).input_ids for special in (False, True)
        ]
    assert again.reads_labels or again._make.cache_info().currsize == 0  # nothing took the libraries


def _shapes(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: (p.shape, p.dtype) for name, p in parameters.items()}


def merges(made: Made) -> None:
    """a merged folder is loaded by diffusers, and holds the change"""
    folder = merge(made.folder, made.run, made.place / "merged")
    model = load(folder)
    merged = dict(model.network.named_parameters())
    base, delta = dict(made.loaded.network.named_parameters()), made.run.delta()
    assert all(torch.equal(merged[name], delta.get(name, parameter)) for name, parameter in base.items())
    assert type(model.pipeline) is type(made.loaded.pipeline)


def writes_lora(made: Made) -> None:
    """a LoRA file is added by diffusers, and is the change"""
    if not hasattr(made.loaded.pipeline, "load_lora_weights"):
        raise Inapplicable("diffusers' pipeline loads no LoRA", rule="no-lora-loader", value=made.loaded.family)
    file = made.place / "lora.safetensors"
    assert write_lora(made.folder, made.low_rank_run, file) < 1e-4
    pipeline = load(made.folder).pipeline
    with quiet():
        pipeline.load_lora_weights(file)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    parameters = dict(getattr(pipeline, made.loaded.network_part).named_parameters())
    for name, value in made.low_rank_run.delta().items():
        torch.testing.assert_close(parameters[name].detach(), value, rtol=1e-4, atol=1e-5)


def writes_single_file(made: Made) -> None:
    """a single file in diffusers' names holds the change"""
    original, file = made.place / "original.safetensors", made.place / "changed.safetensors"
    base = {name: value.contiguous() for name, value in made.loaded.network.state_dict().items()}
    save_file(base, original)
    delta = made.run.delta()
    written = load_file(write_single_file(made.folder, made.run, file, original))
    assert written.keys() == base.keys()
    assert all(torch.equal(value, delta.get(name, base[name])) for name, value in written.items())


def evaluates(made: Made) -> None:
    """`expunge eval` measures a run with CLIP as the judge"""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    text = small | {"vocab_size": 400, "max_position_embeddings": 12, "eos_token_id": 356, "bos_token_id": 355}
    judge = made.place / "clip"
    vision = small | {"image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(judge)
    tiny.tokenizer().save_pretrained(judge)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(judge)
    sampler = Sampler(2, made.loaded.default_sampler.guidance_scale)
    rows = evaluate(made.run, made.loaded, judge=str(judge), protocol=Protocol(prompts=1, seeds=1, target_seeds=1), sampler=sampler)
    values = {(row.run, row.metric): row.value for row in rows}
    assert values[(made.run.id, "weight_change")] > 0
    assert 0 <= values[(made.run.id, "UA")] <= 1


def victim(made: Made) -> Victim:
    return Victim(tiny.session(made.loaded), made.concept, made.run.delta(), pictures=2)


def relearns(made: Made) -> None:
    """the relearning attack trains"""
    *_, last = Relearn(steps=2, batch_size=2, pictures=2)(victim(made))
    delta = made.run.delta()
    assert any(not torch.equal(value.cpu(), delta[name]) for name, value in last.weights.items() if name in delta)


def inverts(made: Made) -> None:
    """the inversion attack learns a word"""
    readings = list(Inversion(steps=2, batch_size=2, shown=2)(victim(made)))
    assert len(readings) > 1


CHECKS: dict[str, Callable[[Made], None]] = {
    "loads": loads,
    "one step": one_step,
    "whole sampling": whole_sampling,
    "autoencoder": decodes_what_it_encodes,
    **{name: method(name) for name in ("mim-mu", "esd", "f-dmu", "pure", "dimum", "uce", "supplant")},
    "loss falls": loss_falls,
    "low rank": low_rank,
    "checkpointing": checkpointing,
    "resume": resumes,
    "dry run": dry_run,
    "folder": merges,
    "LoRA": writes_lora,
    "single file": writes_single_file,
    "eval": evaluates,
    "relearn": relearns,
    "inversion": inverts,
}
