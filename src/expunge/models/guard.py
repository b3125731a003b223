"""Checks a model when it is loaded, by two small sampling steps: what is unusual shows here, and not after hours of work."""

import copy
import warnings
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from expunge.diffusion.types import Latents
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.finite import refuse_non_finite
from expunge.models.sampling import Visit
from expunge.models.unusual import refuse_unusual

SIDE = 8
"""Height and width of the latents that a model is checked on, where its network takes them."""
ALIKE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of two predictions of one network, relative to the largest value: kernels of attention round differently."""


def checked(model: DiffusionModel, in_memory: bool = False) -> DiffusionModel:
    """The model, if two steps of its sampler give finite numbers, and in half precision its autoencoder too.

    The steps are those of an empty prompt, on latents of `SIDE` x `SIDE` where the network takes them, else of the model's own size.

    Args:
        in_memory: whether it was given as a pipeline, which somebody may have changed. Then adapters, hooks and patches are refused, and a
            prediction is compared with that of a new network of the same class, configuration and parameters.

    Raises:
        ExpungeError: rule "unusable-model", a step raised an error of whatever library; "not-finite"; those of `refuse_unusual`;
            "other-parameters" or "other-forward", the network is not what its class and configuration say.
    """
    if in_memory:
        refuse_unusual({model.network_part: model.network, **model.fixed_parts})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of schedulers are shown when a run samples
            latents = _step_where_it_can(model)
            if in_memory:
                _compare(model, latents)
    except ExpungeError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise ExpungeError(
            f"{model.name} cannot sample with a {model.scheduler_name} in {model.precision}: {reason}.",
            rule="unusable-model",
            value=model.name,
            hint="Try another --dtype or device, or another scheduler in the model's folder.",
        ) from error
    return model


def _step_where_it_can(model: DiffusionModel) -> Latents:
    """`_step` on small latents, or on those of the model's own size where its network takes no others."""
    whole = max(model.latent_shape[1:])
    side = min(SIDE, *model.latent_shape[1:])
    try:
        return _step(model, side)
    except ExpungeError:
        raise
    except Exception:
        if side == whole:
            raise
        return _step(model, whole)


@torch.no_grad()
def _step(model: DiffusionModel, side: int) -> Latents:
    """Takes two steps of the model's own sampler from noise of one image; returns the latents after the first."""
    small = copy.copy(model)
    noise = model.noise([0])[:, :, :side, :side]
    small.noise = lambda seeds: noise  # type: ignore[method-assign]
    # Without guidance, which would double the batch. The second output is the next point, or the clean latents of a single step.
    first, second = islice(small.walk(model.null(), [0], replace(model.default_sampler, guidance_scale=1.0)), 2)
    assert isinstance(first, Visit)
    latents = second.x_t if isinstance(second, Visit) else second
    refuse_non_finite(first.given, "The network's predictions")
    refuse_non_finite(latents, "Latents after one step")
    if model.dtype != torch.float32:  # where autoencoders overflow
        model.decode(latents)
    return latents


@torch.no_grad()
def _compare(model: DiffusionModel, latents: Latents) -> None:
    """Compares a prediction with that of a new network of the same class and configuration with the same parameters."""
    network: Any = model.network
    if not type(network).__module__.startswith("diffusers.") or getattr(network, "is_quantized", False):
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        plain = type(network).from_config(network.config).eval()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    expected = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
    if odd := sorted(tensors.keys() ^ expected.keys()):
        has = "has a tensor" if odd[0] in tensors else "lacks the tensor"
        raise ExpungeError(
            f"The pipeline's {model.network_part} {has} {odd[0]}, unlike a {type(network).__name__} of its configuration.",
            rule="other-parameters",
            value=odd[0],
            hint="Try to undo what changed the network (fused projections, adapters), or to load the pipeline again.",
        )
    x_t, t, cond = latents.to(next(network.parameters()).dtype), model.path.times(torch.tensor([0.5])).to(latents.device), model.null()
    with model.as_trained(recomputes=network.is_gradient_checkpointing):
        ours = model.run(x_t, t, cond)
        theirs = model.call(partial(_called_with, plain, tensors), x_t, t, cond.to(dtype=x_t.dtype)).float()
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    if not difference <= ALIKE.get(model.dtype, 5e-2):
        raise ExpungeError(
            f"The pipeline's {model.network_part} predicts something else than a {type(network).__name__} with its parameters and its "
            f"configuration (by {difference:.1%}): something changed its forward pass.",
            rule="other-forward",
            value=difference,
            hint="Try to load the pipeline again without patches such as token merging or caching.",
        )


def _called_with(network: torch.nn.Module, tensors: dict[str, Tensor], *given: object, **named: object) -> object:
    return torch.func.functional_call(network, tensors, given, named)
