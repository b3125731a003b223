"""Supplant: the name is read as one definite replacement, and the image is removed in layerwise whitened steps."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import squared_error
from expunge.diffusion.networks import Models
from expunge.diffusion.types import together
from expunge.methods._closed_form import mapped
from expunge.methods.base import ClosedForm, Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope

RIDGE = 0.05
"""`UCE.ridge` of the closed form. Random prompts have all directions, so a smaller one than UCE's maps the name more exactly at no cost."""


@dataclass(frozen=True)
class Supplant(Objective):
    """Read the name as another member and remove the concept's image (Supplant).

    Choose it where the concept must not return when the model is fine-tuned on other images, and where the vocabulary does not list
    everything that must survive: it needs no retain set. It trains all weights, so it takes more memory than methods on cross-attention.
    What the concept's prompts generate instead is one other member, for the canvas's *pentagon* an asterisk (docs/results/flagship.md).

    The run begins with a closed form: UCE's edit maps the keys and values of the concept's prompts c_f to those of c_r, and preserves those
    of random prompts. The layers behind then see nearly the same in both prompts, so later training hardly separates them again. All
    layers are then trained:

        L =  word  E || eps_theta(x_t, t, c_f) - sg[ eps_theta(x_t, t, c_r) ] ||^2        x_0: images of the concept
           + image E || eps_theta'(x_t, t, c_f) - sg[ eps_theta(x_t, t, c_r) ] ||^2       x_0: images of the concept
           + show  E || eps_theta(x_t, t, c_f) - eps_*(x_t, t, c_r) ||^2                  x_0: images of the replacement
           + lock  E || eps_theta(x_t, t, c_w) - eps_*(x_t, t, c_w) ||^2                  x_0: images of the replacement
           + keep  E || eps_theta(x_t, t, c_a) - eps_*(x_t, t, c_a) ||^2                  x_0: images of random prompts c_a
           + turn  E || x_theta(x_t, t, c_a) - x_a ||^2                                   x_0: images of the concept

    c_r is the concept's prompt with the replacement's name: the anchor, if one is given, else the member of its kind with the longest way
    back to the concept (`training.replacement.steadiest`). c_w is the same with a word of the tokenizer, in every second prompt one that
    is read like the name (`training.anything.nearest_words`), and c_a is made of random words, with such a near one in half of the
    prompts; a class-conditional model has labels of other classes in their place. theta' is theta with the base model's weights where
    prompts are read (keys and values): an attacker who restores how the name is read is to find no image of the concept. A learned word
    may still put a style together from others. x_theta is the image that a prediction means, and x_a the base model's image of c_a from
    the initial noise of x_0: an image of the concept that the model is shown becomes what the prompt says. The derivation is in
    docs/explanation/supplant.md. Under a low-rank variant there is no closed form, and keys and values are trained with the rest.

    Source: arXiv 2308.14761 (UCE) for the closed form; arXiv 2310.12508 (SalUn) for the goal that moves with the student, so that
    images of the concept may be forgotten under any prompt; arXiv 2512.03564 (DiMUM) for learning the replacement on its own images;
    arXiv 1503.05671 (K-FAC) and 2604.21041 (PGU) for the steps (`whiten_layers`). STEREO (arXiv 2408.16807) learns words that bring the
    concept back and erases them too; theta' takes the place of the best such word and costs no inner loop. Ours are theta', the
    term `turn`, the one replacement and its choice, retention on random words, and the whole.
    """

    word: Annotated[float, Ge(0)] = 1.0
    """Weight of the first term, which disconnects the name. Larger forgets sooner and drags names that are read like it along."""
    image: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term, which removes the image. Larger leaves less to an attacker who restores how the name is read, and damages
    what looks like the concept more."""
    show: Annotated[float, Ge(0)] = 1.0
    """Weight of the third term, which shows the replacement. Larger generates it more cleanly under the concept's prompts."""
    lock: Annotated[float, Ge(0)] = 3.0
    """Weight of the fourth term, which keeps all other words in the concept's place. Larger preserves siblings more and forgets more
    slowly."""
    keep: Annotated[float, Ge(0)] = 2.0
    """Weight of the fifth term, which keeps the predictions on images of random prompts. Larger preserves everything more and forgets more
    slowly."""
    turn: Annotated[float, Ge(0)] = 0.3
    """Weight of the last term, which turns images of the concept into what other prompts say. Larger leaves less to an image editor,
    and changes what looks like the concept more."""
    preserve: Annotated[float, Ge(0)] = 0.2
    """Weight of random prompts in the closed form. Larger preserves more exactly how other words are read, and maps the name less
    exactly."""
    variant: Variant = "full"
    """Which weights are trained (`expunge ls scopes`). Fewer leave the image in the others."""

    training: ClassVar[Training] = Training(
        steps=60, lr=3e-4, batch_size=8, accumulate=2, points=768, retain_pictures=256, whiten=1e-3, whiten_layers=True
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "replacement", "replaced", "replaced_as", "other_words", "anything", "turned", "reference"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    @property
    def first(self) -> ClosedForm:
        return partial(mapped, erase_weight=1.0, preserve_weight=self.preserve, ridge=RIDGE)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, replaced, kept, y = batch.forget, batch.replaced, batch.anything, batch.turned
        others = replaced.given(batch.other_words)
        with torch.no_grad():
            goal = models.student(x.given(batch.replacement))
        removed, shown, locked, spared, shown_as = together(models.student, x, replaced, others, kept, y)
        x_theta, x_a = (models.path.x_0(prediction, y.x_t, y.t) for prediction in (shown_as, y.goal))
        return {
            "word": self.word * squared_error(removed, goal).mean(),
            "image": self.image * squared_error(models.recalled(x), goal).mean(),
            "show": self.show * squared_error(shown, models.reference(replaced.given(batch.replaced_as))).mean(),
            "lock": self.lock * squared_error(locked, models.reference(others)).mean(),
            "keep": self.keep * squared_error(spared, models.reference(kept)).mean(),
            "turn": self.turn * squared_error(x_theta, x_a).mean(),
        }
