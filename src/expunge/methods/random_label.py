"""Random relabelling."""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods._relabelling import Relabelling
from expunge.methods.base import Training, Variant


@dataclass(frozen=True)
class RandomLabel(Relabelling):
    """Fine-tune on wrong labels: the concept's images under prompts of other concepts.

    On images of the concept, the network learns to predict under the concept's prompt what it predicts under a prompt with another member
    of its kind, and continues to denoise the retain set. Choose it where images of the retain prompts are available and may be trained on.
    With `--variant full --whiten 0 --lr 1e-4` it is SalUn without the mask, and shows what the mask contributes.

        L = E || eps_theta(x_t, t, c_f) - sg[ eps_theta(x_t, t, c') ] ||^2  +  retain_weight E || eps - eps_theta(x_t', t', c_r) ||^2

    with x_t of images of the concept, c' their prompt with another member of the kind in place of the concept, and x_t' of images of the
    retain prompts.

    Source: arXiv 1911.04933 for random labels, a baseline for classifiers there, and arXiv 2310.12508 (SalUn) for this loss of diffusion
    models, which its released code also runs without a mask. As there, the goal is the current network's prediction. That code gives all
    images the next class (`wrong_label` anchor), and the paper any other class; here c' is sampled for each point. Student and goal have
    the same x_t, where the released code encodes the image twice, with independent noise. Ours are the choice of divergence, images by
    the base model instead of real ones, and by default cross-attention with whitened steps instead of all weights.
    """

    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Whitened steps need cross-attention among them."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16, whiten=1e-3)
