"""The noise path of a pipeline, read from its scheduler."""

from typing import Any

from expunge.diffusion.noise_path import Discrete, Flow, NoisePath
from expunge.errors import ExpungeError


def path_of(scheduler: Any) -> NoisePath:
    """The path on which the scheduler's model was trained.

    Raises:
        ExpungeError: a prediction type that no path here has, or a scheduler that tells no path.
    """
    if hasattr(scheduler, "alphas_cumprod"):
        return Discrete(scheduler.alphas_cumprod, scheduler.config.prediction_type)
    if not is_flow(scheduler):
        kind = type(scheduler).__name__
        raise ExpungeError(
            f"A {kind} does not say on which noise path its model was trained.",
            rule="unknown-noise-path",
            value=kind,
            hint="Try the scheduler that the model was published with; a DDIMScheduler with its betas serves every eps or v model.",
        )
    return Flow(scheduler.config.num_train_timesteps)


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler without betas is one of flow matching."""
    return type(scheduler).__name__.startswith("FlowMatch") or scheduler.config.get("prediction_type") == "flow_prediction"


def settings_of_path(scheduler: Any) -> dict[str, Any]:
    """What decides the path, as a part of a model's identity."""
    if not hasattr(scheduler, "alphas_cumprod"):
        return {"path": "flow", "horizon": scheduler.config.num_train_timesteps}
    config = scheduler.config
    betas = {k: config.get(k) for k in ("beta_start", "beta_end", "beta_schedule", "prediction_type")}
    return betas | {k: config[k] for k in ("trained_betas", "rescale_betas_zero_snr") if config.get(k)}  # which few models have
