"""What names a result beside what was asked for: the code that computes it, the libraries, and the kind of device."""

from collections.abc import Iterable
from typing import Any

import torch

from expunge.methods.base import Method, Objective
from expunge.models.base import DiffusionModel
from expunge.storage.code import code_digest, modules_of


def training_code(methods: Iterable[Method], model: Iterable[str], *rules: object) -> str:
    """A digest of the code that decides the weights of a run.

    It covers each method with what it imports, the room of training, where any method is trained, and what these import of models,
    noise paths and concepts. A method's file is not covered where it is not used: an edit of one leaves the runs of others valid.

    Args:
        model: names of the modules, or packages, of the model's family; see `modules_of`.
        rules: what else takes part, such as a rule that stops the run.
    """
    methods = list(methods)
    trained = any(isinstance(method, Objective) for method in methods)
    room = "expunge.training" if trained else "expunge.training.edit_prompts"
    return code_digest(*sorted({room, *model, *modules_of(*methods, *rules)}), alone=["expunge.runs.unlearn"])


def image_key(model: DiffusionModel, *modules: str) -> dict[str, Any]:
    """What decides an image, or its latents, besides weights, prompt, noise and sampler: a part of the key that it is cached under.

    Another kind of device and another version of torch round differently, and other code may compute something else.

    Args:
        modules: names of the modules that ask the model for it.
    """
    made_by = {"torch": torch.__version__, "device": model.device_kind, "code": code_digest(*modules_of(model), alone=modules)}
    return model.rendered_by | made_by
