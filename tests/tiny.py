"""A real Stable Diffusion pipeline so small that a test can train it: the canvas's parts, random, on 8x8 latents."""

import copy
import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from expunge.canvas.pipeline import assemble, new_text_encoder, new_vae, write_tokenizer
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.diffusion.types import Cond
from expunge.models.base import DiffusionModel
from expunge.models.stable_diffusion import StableDiffusion
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.training.session import Session
from expunge.training.steps import Step

TRAINING = {"steps": 6, "batch_size": 4, "points": 16, "pictures": 8, "lr": 1e-3}
"""Enough steps to visit points twice."""
PLAIN = TRAINING | {"steps": 2, "whiten": 0.0}
"""Where it matters that weights change, and not how."""


@cache
def tokenizer():
    return write_tokenizer(Path(tempfile.mkdtemp()) / "tokenizer")


@cache
def _networks(seed: int) -> tuple[AutoencoderKL, CLIPTextModel, UNet2DConditionModel]:
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=2,
    )
    made = new_vae(), new_text_encoder(tokenizer()), unet
    # A random network hardly reads its prompt; without this, every concept's prediction would be nearly the same.
    for name, parameter in unet.named_parameters():
        if ".attn2." in name:
            parameter.data *= 4
    return made


def copied(module: torch.nn.Module) -> torch.nn.Module:
    """A copy with tensors, submodules and hooks of its own, in a quarter of the time that `deepcopy` takes; what else it has is shared."""
    made = module.__class__.__new__(module.__class__)
    # Hooks are in dictionaries, one for each kind.
    vars(made).update((name, value.copy() if type(value) in {dict, OrderedDict, set} else value) for name, value in vars(module).items())
    for name, parameter in module._parameters.items():
        if parameter is not None:
            made._parameters[name] = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            made._buffers[name] = buffer.clone()
    for name, part in module._modules.items():
        if part is not None:
            made._modules[name] = copied(part)
    return made


def pipeline(seed: int = 0, prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    vae, text_encoder, unet = map(copied, _networks(seed))
    config = copy.deepcopy(text_encoder.config)  # which changes with the number of its words
    for part in text_encoder.modules():
        if hasattr(part, "config"):
            part.config = config
    torch.default_generator.manual_seed(seed)  # what a test draws next is the same whether or not it was the first to ask
    made = assemble(vae, text_encoder, tokenizer(), unet)
    made.scheduler.register_to_config(prediction_type=prediction_type)
    return made


def model(seed: int = 0, prediction_type: str = "epsilon") -> StableDiffusion:
    return StableDiffusion(pipeline(seed, prediction_type))


def session(of: DiffusionModel | None = None, cache: Store | None = None) -> Session:
    """A silent session; by default of a new model, with the cache of all tests."""
    return Session(of or model(), cache or Store.default(), Silent())


Watch = Callable[[Iterator[Step], int, int], Iterator[Step]]
"""Is given the training steps of a run, the number done before and the number in all, and yields the steps."""


@dataclass(frozen=True)
class Watching(Silent):
    watch: Watch | None = None

    def steps(self, steps: Iterator[Step], done: int, total: int) -> Iterator[Step]:
        return self.watch(steps, done, total) if self.watch else steps


def watching(watch: Watch | None) -> Watching:
    """Progress that hands the training steps to a function; None shows nothing."""
    return Watching(watch=watch)


def concept(target: str = "neon", **settings) -> Concept:
    return Concept.find(target, Vocabulary.canvas(), **settings)


sampler: property = DiffusionModel.default_sampler  # type: ignore[assignment]
"""What `hasten` puts another in the place of."""


def hasten() -> None:
    """Takes from this process what models so small have no use for.

    A second thread; oneDNN's convolutions, which take longer to set up than these take to compute; and the field's 25 steps for a
    picture, which by a random network is no better for them. The canvas draws as ever. And each prompt is read once.
    """
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    DiffusionModel.default_sampler = property(
        lambda self: sampler.fget(self) if self.defaults.sampler else replace(sampler.fget(self), steps=4)
    )
    StableDiffusion.encode_rows = _read_once(StableDiffusion.encode_rows)
    StableDiffusion.check_words = _checked_once(StableDiffusion.check_words)


def _read_once(encode: Callable[[StableDiffusion, list[str]], Cond]) -> Callable[[StableDiffusion, list[str]], Cond]:
    """What equal text encoders give for the same prompts, given at once, is computed once: the hundreds of prompts of a run take longer
    to read than its steps."""
    known: dict[tuple, Cond] = {}

    def encode_rows(model: StableDiffusion, prompts: list[str]) -> Cond:
        if type(model) is not StableDiffusion:  # another family, or an outline
            return encode(model, prompts)
        if (key := (*_reading(model), *prompts)) not in known:
            known[key] = encode(model, prompts)
        return known[key]

    return encode_rows


def _checked_once(check: Callable[..., None]) -> Callable[..., None]:
    """A prompt that a tokenizer knows is not asked for again."""
    known: set[tuple] = set()

    def check_words(model: StableDiffusion, *prompts: str) -> None:
        if type(model) is not StableDiffusion:
            return check(model, *prompts)
        reading = _reading(model)
        new = {(reading, prompt): prompt for prompt in prompts if (reading, prompt) not in known}
        check(model, *new.values())
        known.update(new)

    return check_words


def _reading(model: StableDiffusion) -> tuple:
    """What decides how a model reads. The weights are hashed again when they were changed."""
    encoder, tokenizer = model.pipeline.text_encoder, model.pipeline.tokenizer
    changes = sum(parameter._version for parameter in encoder.parameters())
    if vars(encoder).get("_hashed", (None,))[0] != changes:
        weights = (tensor.float().numpy().tobytes() for tensor in encoder.state_dict().values())
        encoder._hashed = changes, hashlib.sha256(b"".join(weights)).hexdigest()
    masked = getattr(encoder.config, "use_attention_mask", False)
    return encoder._hashed[1], encoder.dtype, masked, encoder.config.eos_token_id, model._words, len(tokenizer), tokenizer.model_max_length
