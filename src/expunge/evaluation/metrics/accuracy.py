"""Shares of pictures in which the judge sees what it should: is the concept gone, and what else was hurt.

UA, IRA and CRA are UnlearnCanvas's (arXiv 2402.11846), whose prompts all read "a {object} image in {style} style"; our probes
add each concept named alone. UA_syn, and the prompt sets of NRA and ORA, are ours. Intervals are Wilson's. A judge errs too,
and a model that never could draw a thing has not unlearned it: read every share beside the untouched model's.
"""

from abc import ABC, abstractmethod

from expunge.evaluation.metrics.base import Evidence, Score, Shots, pool
from expunge.evaluation.statistics import wilson


class Share(ABC):
    """A share of the pooled pictures of some probes."""

    name: str
    title: str
    probes: frozenset[str]
    higher_is_better = True

    @abstractmethod
    def hits(self, shots: Shots, evidence: Evidence) -> list[bool]:
        """For each picture that counts, whether it is as it should be; empty when no judge can tell."""

    def __call__(self, evidence: Evidence) -> list[Score]:
        hits = self.hits(pool(evidence.shots, self.probes), evidence)
        return [Score.of(self, wilson(sum(hits), len(hits)), len(hits))] if hits else []


class UA(Share):
    """Unlearning accuracy: share of the target's pictures that the judge does not take for the target.

    UnlearnCanvas's definition. A picture of rubble counts as unlearned; CRA and FID_drawn tell it from a good one.
    """

    name = "UA"
    title = "target pictures not recognised as the target"
    probes = frozenset({"target"})

    def hits(self, shots: Shots, evidence: Evidence) -> list[bool]:
        return [not seen for seen in shots.right(evidence.kind)]


class UASynonyms(UA):
    """UA on the concept's other names. Ours: low where UA is high means that a word was erased, not a concept."""

    name = "UA_syn"
    title = "pictures of the target's other names not recognised as the target"
    probes = frozenset({"synonyms"})


class IRA(Share):
    """In-domain retain accuracy: share of pictures of the kind's other members whose member is recognised.

    UnlearnCanvas's definition: for an erased style, the other styles; for an erased object, the other objects.
    """

    name = "IRA"
    title = "other members of the target's kind still recognised"
    probes = frozenset({"siblings", "same_domain"})

    def hits(self, shots: Shots, evidence: Evidence) -> list[bool]:
        return shots.right(evidence.kind)


class CRA(Share):
    """Cross-domain retain accuracy: share of pictures whose partner is recognised, over all prompts that name one.

    UnlearnCanvas's definition: for an erased style, the objects; for an erased object, the styles. As in its script, partners
    that stand beside the target count too: a ring in the erased style must still be a ring. Partners that stand alone are not
    among its prompts; they count in ORA.
    """

    name = "CRA"
    title = "partners of the other kind still recognised, beside the target and beside others"
    probes = frozenset({"target", "siblings", "same_domain"})

    def hits(self, shots: Shots, evidence: Evidence) -> list[bool]:
        return shots.right(evidence.partner)


class NRA(IRA):
    """Neighbour retain accuracy: IRA on the target's siblings alone, those that erasure hurts first.

    The name is from the fine-grained evaluation of MiM-MU (arXiv 2603.00992), which does not spell it out. That the neighbours
    are the members of the target's family in the vocabulary is ours.
    """

    name = "NRA"
    title = "the target's nearest neighbours still recognised"
    probes = frozenset({"siblings"})


class ORA(Share):
    """Other retain accuracy: share of pictures far from the target in which all that the prompt says is recognised.

    The name is from MiM-MU, as with NRA. Which pictures is ours: members of the kind that are no siblings, with every partner
    and alone, and the partners alone. Stricter than IRA, since a picture of two concepts must show both.
    """

    name = "ORA"
    title = "everything but the target and its neighbours still recognised, in full"
    probes = frozenset({"same_domain", "cross_domain"})

    def hits(self, shots: Shots, evidence: Evidence) -> list[bool]:
        return shots.right(evidence.kind, evidence.partner)
