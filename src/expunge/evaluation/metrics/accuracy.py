"""Shares of images in which the judge sees what it should: is the concept gone, and what else was hurt.

UA, IRA and CRA are UnlearnCanvas's (arXiv 2402.11846), whose prompts all read "a {object} image in {style} style"; our probes
add each concept named alone. UA_syn, and the prompt sets of NRA and ORA, are ours. A judge errs too, and a model that never could
render a thing has not unlearned it: read every share beside the base model's.
"""

from collections.abc import Mapping

from expunge.evaluation.metrics.base import Share, shows
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.results import Sample


class UA(Share):
    """Unlearning accuracy: share of the target's images that the judge does not take for the target.

    UnlearnCanvas's definition. An image of rubble counts as unlearned; OOD, CRA and FID_drawn distinguish it from a good one.
    """

    about = Description(
        name="UA",
        title="target images not recognised as the target",
        plain="Prompts with the concept's name",
        meaning="Unlearning accuracy: the share of images of prompts with the concept's name in which the judge does not see the "
        "concept. The base model's UA is the share that model and judge miss without unlearning. A broken image counts as "
        "removed too, so read UA together with CRA.",
        form="share",
        better="higher",
        aim="forget",
        probes=("target",),
        needs=("labels",),
        papers=("2402.11846",),
        high=1.0,
    )

    def is_right(self, sample: Sample, seen: Mapping[str, str]) -> bool | None:
        shown = shows(sample, seen, sample.kind)
        return None if shown is None else not shown


class UASynonyms(UA):
    """UA on the concept's other names. Ours: low where UA is high means that a word was erased, not a concept."""

    about = Description(
        name="UA_syn",
        title="images of the target's other names not recognised as the target",
        plain="Prompts with a synonym",
        meaning="UA for prompts with a synonym of the concept. A high UA with a low UA_syn means that the method removed a word and not "
        "the concept.",
        form="share",
        better="higher",
        aim="forget",
        probes=("synonyms",),
        needs=("labels",),
        high=1.0,
    )


class IRA(Share):
    """In-domain retain accuracy: share of images of the kind's other members whose member is recognised.

    UnlearnCanvas's definition: for an erased style, the other styles; for an erased object, the other objects.
    """

    about = Description(
        name="IRA",
        title="other members of the target's kind still recognised",
        plain="Concepts of the same kind",
        meaning="In-domain retain accuracy: the share of images of other concepts of the same kind in which the judge sees the prompted "
        "concept.",
        form="share",
        better="higher",
        aim="retain",
        probes=("siblings", "same_domain"),
        needs=("labels",),
        papers=("2402.11846",),
        high=1.0,
    )

    def is_right(self, sample: Sample, seen: Mapping[str, str]) -> bool | None:
        return shows(sample, seen, sample.kind)


class CRA(Share):
    """Cross-domain retain accuracy: share of images whose partner is recognised, over all prompts that name one.

    UnlearnCanvas's definition: for an erased style, the objects; for an erased object, the styles. As in its script, partners
    beside the target count too: a ring in the erased style must still be a ring. Partners that a prompt names alone are not
    among its prompts; they count in ORA.
    """

    about = Description(
        name="CRA",
        title="partners of the other kind still recognised, beside the target and beside others",
        plain="Concepts of the other kind",
        meaning="Cross-domain retain accuracy: the share of images in which the judge sees the concept of the other kind that the "
        "prompt names, beside the removed concept and beside others.",
        form="share",
        better="higher",
        aim="retain",
        probes=("target", "siblings", "same_domain"),
        needs=("labels",),
        papers=("2402.11846",),
        high=1.0,
    )

    def is_right(self, sample: Sample, seen: Mapping[str, str]) -> bool | None:
        return shows(sample, seen, sample.partner)


class NRA(IRA):
    """Neighbour retain accuracy: IRA on the target's siblings alone, those that erasure hurts first.

    The name is from the fine-grained evaluation of MiM-MU (arXiv 2603.00992), which does not spell it out. That the neighbours
    are the members of the target's family in the vocabulary is ours.
    """

    about = Description(
        name="NRA",
        title="the target's nearest neighbours still recognised",
        plain="Most similar concepts",
        meaning="Neighbour retain accuracy: IRA of the concept's siblings alone.",
        form="share",
        better="higher",
        aim="retain",
        probes=("siblings",),
        needs=("labels",),
        papers=("2603.00992",),
        high=1.0,
    )


class ORA(Share):
    """Other retain accuracy: share of images far from the target in which all that the prompt says is recognised.

    The name is from MiM-MU, as with NRA. Which images is ours: members of the kind that are no siblings, with every partner
    and alone, and the partners alone. Stricter than IRA, since an image of two concepts must show both.
    """

    about = Description(
        name="ORA",
        title="everything but the target and its neighbours still recognised, in full",
        plain="All other concepts",
        meaning="Other retain accuracy: the share of images of all other prompts, siblings excepted, in which the judge sees everything "
        "that the prompt names.",
        form="share",
        better="higher",
        aim="retain",
        probes=("same_domain", "cross_domain"),
        needs=("labels",),
        papers=("2603.00992",),
        high=1.0,
    )

    def is_right(self, sample: Sample, seen: Mapping[str, str]) -> bool | None:
        return shows(sample, seen, sample.kind, sample.partner)
