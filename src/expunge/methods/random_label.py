"""Random relabelling."""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods._relabelling import Relabelling
from expunge.methods.base import Training, Variant


@dataclass(frozen=True)
class RandomLabel(Relabelling):
    """See in the concept's pictures, under its prompt, what the network sees in them under the name of another of its kind.

        L = E || eps_theta(x_t, t, c_f) - sg[ eps_theta(x_t, t, c') ] ||^2  +  retain_weight E || eps - eps_theta(x_t', t', c_r) ||^2

    with x_t of the concept's pictures, c' their prompt with another member of the kind in the concept's place, and x_t' of pictures
    that must survive. Choose it where pictures of what must survive are at hand and may be trained on; with `--variant full --whiten 0
    --lr 1e-4`, it is the plain form of SalUn, which shows what the mask adds.

    Source: arXiv 1911.04933 for random labels, there a baseline of a classifier, and arXiv 2310.12508 (SalUn) for this loss of
    diffusion models, whose released code runs it without a mask too. The goal is the present network's prediction, as there. That
    code gives all pictures the class next in order, the paper any other: here it is drawn at random for each point. Student and
    goal look at the same x_t, where the released code encodes the picture twice, with independent noise. Ours are the choice of
    divergence, pictures by the untouched model in the place of real ones, and by default cross-attention in whitened steps in the
    place of all weights.
    """

    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Whitened steps need cross-attention among them."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16, whiten=1e-3)
