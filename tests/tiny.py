"""A real Stable Diffusion pipeline so small that a test can train it: the canvas's parts, random, on 8x8 latents."""

import copy
import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from expunge.canvas.pipeline import assemble, new_text_encoder, new_vae, write_tokenizer
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.models.base import DiffusionModel
from expunge.models.stable_diffusion import StableDiffusion
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.training.session import Session
from expunge.training.steps import Step

TRAINING = {"steps": 6, "batch_size": 4, "points": 16, "pictures": 8, "lr": 1e-3}
"""Enough steps to visit points twice."""


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
    torch.manual_seed(seed)  # what a test draws next is the same whether or not it was the first to ask
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
    for name in ("encode_rows", "check_words"):
        setattr(StableDiffusion, name, _remembered(getattr(StableDiffusion, name)))


def _remembered(what: Callable[..., Any]) -> Callable[..., Any]:
    """What equal text encoders and tokenizers say to the same prompts, given at once, is computed once: the hundreds of prompts of a
    run take longer to read than its steps."""
    known: dict[tuple, Any] = {}

    def answered(model: StableDiffusion, *asked: Any) -> Any:
        if type(model) is not StableDiffusion:  # another family, or an outline
            return what(model, *asked)
        key = (*_reading(model), *(prompt for part in asked for prompt in ([part] if isinstance(part, str) else part)))
        if key not in known:
            known[key] = what(model, *asked)
        return known[key]

    return answered


def _reading(model: StableDiffusion) -> tuple:
    """What decides how a model reads. The weights are hashed again when they were changed."""
    encoder, tokenizer = model.pipeline.text_encoder, model.pipeline.tokenizer
    changes = sum(parameter._version for parameter in encoder.parameters())
    if vars(encoder).get("_hashed", (None,))[0] != changes:
        weights = (tensor.float().numpy().tobytes() for tensor in encoder.state_dict().values())
        encoder._hashed = changes, hashlib.sha256(b"".join(weights)).hexdigest()
    masked = getattr(encoder.config, "use_attention_mask", False)
    return encoder._hashed[1], encoder.dtype, masked, encoder.config.eos_token_id, model._words, len(tokenizer), tokenizer.model_max_length
