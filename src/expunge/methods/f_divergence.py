"""f-DMU: unlearning by an f-divergence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from expunge.config import NamesCode
from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.divergence import BOUNDS
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point
from expunge.errors import ExpungeError
from expunge.methods._critic import Discriminator
from expunge.methods._matching import Matching
from expunge.methods.base import StartToken, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class FDMU(Matching):
    """Match the concept to the anchor by any f-divergence, on anchor images (f-DMU).

    On images of the anchor, the network learns to predict under the concept's prompt what the base model predicts under the anchor's
    prompt. Choose it when a natural anchor is known and wanted: the concept's prompts then give good images of the anchor. With `kl` it is
    Concept Ablation (arXiv 2303.13516) with the base model as the teacher instead of the current model.

        min_theta E_{x_t of anchor images, t} D_f( p_*(x_{t-1} | x_t, c_anchor) || p_theta(x_{t-1} | x_t, c) )

    Source: arXiv 2509.21167 for the objective, for the closed forms of Gaussian steps, and for the variational form. The closed form of KL
    is the squared error. That of squared Hellinger, the paper's best trade-off, is the squared error times a factor that decreases with the
    distance. Keys and values of cross-attention, and anchor images that are made once, are Concept Ablation's. The released code fixes the
    scale inside the divergence: e^{-d/8} and e^d, with d the squared error summed over the channels of the latent and averaged over its
    places. That is `kappa` 4 for four channels, with `time_weight` flat (the preset `f-dmu-published`). There Hellinger's weight is nearly
    1. Ours are a scale that the first batch sets (see `kappa`), the form by weights, the discriminator and, by default, whitened
    steps.

    Raises:
        ExpungeError: the divergence has no variational form here.
    """

    form: Literal["closed", "variational"] = "closed"
    """How the divergence is computed. `closed`, the better choice, uses the formula for two Gaussians. `variational` trains a small
    discriminator v that bounds it from below, max over v of E_goal[g(v)] - E_student[f*(g(v))], while the student lowers the bound; it is
    less accurate and costs more quality. It ignores `kappa`, `start` and `time_weight`, and supports `kl`, `reverse-kl`, `hellinger`, `js`,
    `tv` and `chi2`."""
    start_token: StartToken = "trained"
    """Whether keys and values learn from how they read the start token; `fixed`, the released code, as in Concept Ablation."""
    variant: Variant = "xattn-kv"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""
    divergence: Annotated[str, NamesCode()] = "hellinger"  # the paper's choice; documented in `Matching`

    training: ClassVar[Training] = Training(steps=120, lr=6e-4, batch_size=24, whiten=1e-3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "variational" and self.divergence not in BOUNDS:
            raise ExpungeError(
                f"{self.divergence!r} has no variational form.",
                rule="no-variational-form",
                value=self.divergence,
                hint=f"Try one of {', '.join(BOUNDS)}, or --form closed.",
            )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"anchor_pictures", "anchor", "reference"})

    @property
    def fixes_start(self) -> bool:
        return self.start_token == "fixed"

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def companion(self, latent_shape: tuple[int, int, int]) -> nn.Module | None:
        return Discriminator(latent_shape[0]) if self.form == "variational" else None

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        return super().prepare(models, batches) if self.form == "closed" else {}

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.anchor_pictures
        return x, models.reference(x.given(batch.anchor))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        if self.form == "closed":
            return {"forget": self.match(models, x, goal)}
        assert models.companion is not None
        f, prediction = BOUNDS[self.divergence], models.student(x)
        p, q = (models.companion(x.x_t, eps, x.t) for eps in (goal, prediction.detach()))
        student = -f.on_q(models.fixed_companion(x.x_t, prediction, x.t)).mean()
        return {"forget": student, "discriminator": f.on_q(q).mean() - f.on_p(p).mean()}
