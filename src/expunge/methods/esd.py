"""Erased Stable Diffusion (ESD)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point, together
from expunge.methods._matching import Matching
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class ESD(Matching):
    """Push the concept's prediction away from the concept by negative guidance (ESD).

    On points of the base model's guided sampling of the concept, the network learns to predict the opposite of the concept's guidance.
    Choose it as the common baseline of the field, or when forgetting must be strong and some damage is acceptable.

        L = E_{x_t ~ p_*(.|f), t} || eps_theta(x_t, t, f) - [ eps_*(x_t, t, s) - eta (eps_*(x_t, t, c) - eps_*(x_t, t, "")) ] ||^2

    with s the surrogate, which is the empty prompt in the paper, and f the prompt that the concept is erased from: the concept's own, c, or
    s (`erase_from`).

    Source: arXiv 2303.07345, equation 6, with f = c and the *paper's* convention of eta. The released code subtracts from the concept's
    prediction instead of the unconditional one, so its `negative_guidance` is this eta plus one: its default 2 is our 1. Where it is given
    a prompt to erase from, f and s are that prompt, and its `negative_guidance` is eta. It samples a new partial trajectory for each step,
    with guidance 3. Ours uses every point of whole trajectories of the base model. The two predictions that guidance needs
    are those of the target, so with the empty prompt the target costs nothing. Steps and guidance are those of any image of the model:
    guidance 7.5, except for the canvas. The paper trains on the concept's bare prompt alone (`--prompts bare`) and has the empty prompt as
    s. The surrogates `context` and `marginal` with f = c, and whitened steps, are ours. The preset `esd-published` has the released
    settings.
    """

    negative_guidance: Annotated[float, Ge(0)] = 1.0
    """The paper's eta. Larger pushes further away from the concept; 0 gives the prediction under s."""
    surrogate: Literal["null", "context", "marginal"] = "marginal"
    """The prompt s, whose prediction is pushed away from the concept: `null`, the empty prompt; `context`, the prompt with the concept
    deleted; `marginal`, the prompt with another concept of the same kind in place of the concept, sampled for each point. The last two
    preserve what else the prompt names."""
    erase_from: Literal["concept", "surrogate"] = "concept"
    """The prompt f that is trained, on its own samples. `concept`, the paper: the concept's prompts give the surrogate, pushed away from
    the concept. `surrogate`, the released code's `erase_from`: the surrogate's prompts lose what their images share with the concept, and
    the concept's own prompts change only as far as that generalises."""
    variant: Variant = "xattn"
    """Which weights are trained: `xattn` is the paper's ESD-x, `non-xattn` its ESD-u (for concepts without a word, such as nudity),
    `xattn-kv` the released code's strict form of ESD-x, `full` all weights."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=24, pictures=48, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        trajectory: Need = "trajectory" if self.erase_from == "concept" else "surrogate_trajectory"
        return frozenset({trajectory, "reference"} if self.surrogate == "null" else {trajectory, "reference", self.surrogate})

    @property
    def reads_null(self) -> bool:
        return True

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.trajectory if self.erase_from == "concept" else batch.surrogate_trajectory
        source, null = x.given(getattr(batch, self.surrogate)), x.given(batch.null)
        eps_s, eps_c, eps_null = together(models.reference, source, x, null)
        return x if self.erase_from == "concept" else source, eps_s - self.negative_guidance * (eps_c - eps_null)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        return {"forget": self.match(models, *self.goal(models, batch))}
