"""What a closed form edits by."""

from expunge.concepts.groups import Subject
from expunge.methods.base import EditPrompts, Which
from expunge.models.base import DiffusionModel
from expunge.training.banks import surviving


def edit_prompts(concept: Subject, model: DiffusionModel, which: Which = "every") -> EditPrompts:
    """What a closed form is given: every prompt to forget, or those that hold a concept alone.

    In a sequence what it is to keep as it is read holds what was removed before, under every name: no other prompt has those words, and an
    edit that is free to change how they are read brings them back.
    """
    forget = [p for p in concept.forget() if which == "every" or p.is_bare]
    together = {c.identity for c in concept.parts}
    before = [c for part in concept.parts for c in part.removed if c.identity not in together]
    retained = [*surviving(concept), *(p.prompt for c in before for p in c.by_every_name.forget())]
    texts = [p.prompt for p in forget], [p.anchor for p in forget], retained
    return EditPrompts(*(model.encode(t) for t in texts))
