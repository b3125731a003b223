"""What a closed form edits, and by which prompts."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.methods.base import ClosedForm, EditPrompts, Which
from expunge.models.base import DiffusionModel
from expunge.models.inputs import Group, conditions, groups
from expunge.models.last_tokens import tails
from expunge.models.scopes import SCOPES, Scope
from expunge.training.banks import surviving, trained_on


def edit_prompts(
    concept: Subject, model: DiffusionModel, names: Collection[str], which: Which = "every"
) -> list[tuple[Group, EditPrompts]]:
    """What a closed form is given: the layers of the named weights, those together that read the same, with what they read of every prompt
    to forget, or of those that hold a concept alone.

    In a sequence what it is to keep as it is read holds what was removed before, under every name: no other prompt has those words, and an
    edit that is free to change how they are read brings them back.
    """
    forget = [p for of in trained_on(concept, which) for p in of]
    retained = [*surviving(concept), *removed_before(concept)]
    return read_by(model, names, [p.prompt for p in forget], [p.anchor for p in forget], retained)


def removed_before(concept: Subject) -> list[str]:
    """The prompts, under every name, of what a sequence removed before and this request does not remove again."""
    together = {c.identity for c in concept.parts}
    before = [c for part in concept.parts for c in part.removed if c.identity not in together]
    return [p.prompt for c in before for p in c.by_every_name.forget()]


def read_by(
    model: DiffusionModel, names: Collection[str], target: Sequence[str], goal: Sequence[str], retain: Sequence[str]
) -> list[tuple[Group, EditPrompts]]:
    """What the layers of the named weights read of these prompts, those together that read the same."""
    found = []
    for group in groups(model, names):
        e, g, p = (conditions(model, group, texts) for texts in (target, goal, retain))
        found.append((group, EditPrompts(e, g, p, tails(model, e) | tails(model, g) | tails(model, p))))
    return found


def edited(method: ClosedForm, weights: Mapping[str, Tensor], read: Sequence[tuple[Group, EditPrompts]]) -> dict[str, Tensor]:
    """The weights after a closed form. Those that no prompt reaches stay as they are."""
    values = {name: weight.detach().clone() for name, weight in weights.items()}
    for group, prompts in read:
        of = group.weights(weights.keys())
        found = method({name: weights[name].mT if group.are_tables else weights[name] for name in of}, prompts)
        values |= {name: value.mT.contiguous() if group.are_tables else value for name, value in found.items()}
    return values


def refuse_edit(model: DiffusionModel, scope: Scope) -> None:
    """Refuses a closed form of weights that read more than the prompt: what they read of it is another at each point of the noise path.

    Raises:
        ExpungeError: the scope holds such a weight.
    """
    if other := sorted(model.scope(scope).keys() - model.scope(SCOPES["entrance"]).keys()):
        raise ExpungeError(
            f"A closed form needs weights that read the prompt alone. {other[0]}, of the scope {scope.name!r}, reads more.",
            rule="closed-form-mixed",
            value=scope.name,
            hint="Try a method whose scope is entrance.",
        )
