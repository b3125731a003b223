"""Unified concept editing (UCE), in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from expunge.diffusion.batch import Need
from expunge.methods._closed_form import Pairing, mapped
from expunge.methods.base import Edit, EditPrompts
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class UCE(Edit):
    """Map the concept's keys and values to the anchor's, by one linear solve (UCE).

    Choose it for speed (seconds, no images, no gradients), for many concepts at once, or as a first try. It changes only how words are
    read. Prompts whose words have nearly the same meaning suffer first, and the network can still generate what no word names. The edit W'
    of each key and value matrix W is the minimum of

        J(W') = a sum_i || W' e_i - W g_i ||^2 + b sum_j || W' p_j - W p_j ||^2 + lam || W' - W ||^2

    with e_i, g_i, p_j token states of the target, goal and retain prompts, and a, b, lam the first three fields. `pairing` says over which
    tokens the sums are. They are over all prompts, so a concept that more prompts contain weighs more.

    Source: arXiv 2308.14761, equation 7. Ours: the same minimum is W' = W T with one T for all matrices (`methods._closed_form.eraser`),
    where the released code inverts a matrix of that size in each layer. The weights a and lam have the defaults of both releases. b is 1 in
    the current one, and in the first one over the number of retain prompts, at least 0.1; the default here forgets more on the canvas than
    1 and damages no more. The pairing `position` is ours. Cross-attention reads all states and sums over them, so if each becomes its
    partner, the output is that of the goal although words have moved. What a causal encoder gives before the concept is its own partner,
    and so is kept. Every map where words enter is edited, each by what it reads (`entrance`): in SDXL the pooled embedding carries half of
    the concept, which the released code leaves as it is. The preset `uce-published` has the settings of the current release.

    Raises:
        ExpungeError: a target prompt equals its goal, so the edit would change nothing; or the matrices read states of another width than
            the prompts have.
    """

    erase_weight: Annotated[float, Ge(0)] = 1.0
    """a: larger maps the concept to its goal more exactly and preserves less; 0 changes nothing."""
    preserve_weight: Annotated[float, Ge(0)] = 0.1
    """b: larger preserves the retain prompts more exactly and forgets less; 0 preserves only through `ridge` and ignores the retain
    prompts."""
    ridge: Annotated[float, Gt(0)] = 0.5
    """lam: pulls to the base model's weights in every direction, including those that no retain prompt spans. Larger changes less."""
    pairing: Pairing = "position"
    """Which states e_i are mapped to which g_i. `position`: all states, padding included, each to the one at its own position in the goal.
    `last-token`: the state of each prompt's last token to that of its goal's; p_j are last tokens too. So has the released code since
    April 2025. `from-last-token`: the last tokens and all states that follow them, in order, until one of the two prompts ends; p_j are all
    states, as in the first release (2023). The last token is that of the whole prompt, such as the "style" of "neon style". Fewer pairs
    change less at the same weights: choose `position` to forget, the others to compare with the paper."""
    prompts: Literal["every", "bare"] = "every"
    """The concept's prompts to edit: `every`, each name with each partner and alone; `bare`, each name alone, as the released code has it.
    `bare` encodes far fewer prompts, which takes most of the time of an edit: choose it from a hundred concepts on. How the concept is read
    beside other words then depends on generalisation."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"anchor", "retain"}) if self.preserve_weight else frozenset({"anchor"})

    @property
    def scope(self) -> Scope:
        return SCOPES["entrance"]

    def __call__(self, weights: Mapping[str, Tensor], prompts: EditPrompts) -> dict[str, Tensor]:
        return mapped(weights, prompts, self.erase_weight, self.preserve_weight, self.ridge, self.pairing)
