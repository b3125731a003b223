"""f-DMU: unlearning by any f-divergence."""

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
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class FDMU(Matching):
    """On the anchor's pictures, let the concept's prompt do what the anchor's prompt does, by a divergence of one's choice.

        min_theta E_{x_t of anchor pictures, t} D_f( p_*(x_{t-1} | x_t, c_anchor) || p_theta(x_{t-1} | x_t, c) )

    Choose it when a natural anchor is known, and to become it is wanted: the concept's prompts then give good pictures of the
    anchor. With `kl` it is Concept Ablation (arXiv 2303.13516) against the untouched model instead of the present one.

    Source: arXiv 2509.21167 for the objective, for the closed forms of Gaussian steps (which make of KL the squared error, and of
    squared Hellinger, its best trade-off, the squared error times a factor that lets go of what is far), and for the variational
    form. Keys and values of cross-attention, and pictures of the anchor made once, are Concept Ablation's. Ours are the scale inside
    the divergence, which the paper leaves open (see `kappa`), the form by weights, all of the discriminator's making and, by
    default, whitened steps.

    Raises:
        ExpungeError: the variational form of a divergence that has none here.
    """

    form: Literal["closed", "variational"] = "closed"
    """`closed` computes the divergence of the two Gaussians; choose it. `variational` trains a small discriminator to bound it from
    below, max over v of E_goal[g(v)] - E_student[f*(g(v))], while the student lowers the bound: rougher, and harder on quality. It has
    no use for `kappa`, `start` and `time_weight`, and knows `kl`, `reverse-kl`, `hellinger`, `js`, `tv` and `chi2`."""
    variant: Variant = "xattn-kv"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""
    divergence: Annotated[str, NamesCode()] = "hellinger"  # described where it is shared; this is the paper's choice

    training: ClassVar[Training] = Training(steps=120, lr=6e-4, batch_size=24, whiten=1e-3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "variational" and self.divergence not in BOUNDS:
            raise ExpungeError(
                f"the variational form knows {', '.join(BOUNDS)}: {self.divergence!r} is none of them; choose one, or --form closed"
            )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"anchor_pictures", "anchor", "reference"})

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
