"""One judge for each kind of concept."""

from collections.abc import Mapping

from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import Images, Judge, Judgement


class JudgeByKind:
    """Labels each kind of concept by a judge of its own, such as styles and objects by two classifiers.

    Choose it where CRA needs a judge of the partners and a classifier knows one kind alone, as on UnlearnCanvas. Features are those of the
    judge of the removed concept's kind.

    Raises:
        ExpungeError: rule "judge-lacks-kind", the concept is of a kind that has no judge.
    """

    def __init__(self, judges: Mapping[str, Judge], name: str):
        self.judges, self.name = judges, name
        self.weights = "+".join(judge.weights for judge in judges.values())

    def _of(self, concept: Concept) -> Judge:
        if concept.kind not in self.judges:
            raise ExpungeError(
                f"{self.name} has no judge of the kind {concept.kind!r}.",
                rule="judge-lacks-kind",
                value=concept.kind,
                hint="Try one of its kinds and a judge more.",
            )
        return self.judges[concept.kind]

    def check(self, concept: Concept) -> None:
        self._of(concept).check(concept)

    def knows(self, member: str, concept: Concept) -> bool:
        return self._of(concept).knows(member, concept)

    def chance(self, concept: Concept) -> float:
        return self._of(concept).chance(concept)

    def __call__(self, images: Images, concept: Concept) -> Judgement:
        own = self._of(concept)(images, concept)
        partner = concept.vocabulary.kinds[concept.kind].partner
        if partner not in self.judges:
            return own
        # A judge labels the kind of the concept that it is given; any member of the partners' kind stands for all of them.
        beside = Concept(concept.vocabulary.kinds[partner].members[0].name, partner, concept.vocabulary)
        other = self.judges[partner](images, beside)
        seen = {**own.seen, **{kind: labels for kind, labels in other.seen.items() if kind == partner}}
        confidence = {**own.confidence, **{kind: values for kind, values in other.confidence.items() if kind == partner}}
        return Judgement(seen, own.features, confidence, own.scores)
