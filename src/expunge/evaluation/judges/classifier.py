"""An image classifier as a judge."""

from collections.abc import Hashable

import torch

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Kind
from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import NOTHING, Images, Judgement, best_label
from expunge.models.quiet import quiet
from expunge.storage.tensors import fingerprint


class ClassifierJudge:
    """A transformers image classifier, from a folder or the hub. It labels the erased concept's kind alone, so it gives no CRA or ORA.

    Choose it where its classes hold the concept. They are matched to the vocabulary's members by name or synonym; ImageNet's lists of
    names ("tench, Tinca tinca") match by any of their parts. A class outside the vocabulary counts as none of its members, and a member
    without a class is left out of every share; rows have how many of the members it knows.

    Raises:
        ExpungeError: rule "unreadable-judge", a folder or id that holds no such classifier in safetensors.
    """

    def __init__(self, model: str, device: str | torch.device = "cpu", name: str = ""):
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self.name = name or model
        try:
            with quiet():
                self.processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
                self.net = AutoModelForImageClassification.from_pretrained(model, use_safetensors=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ExpungeError(
                f"{model} cannot be read as a transformers image classifier in safetensors: {str(error).strip().splitlines()[0]}.",
                rule="unreadable-judge",
                value=model,
                hint="Try another folder or id.",
            ) from error
        self.net.to(device).eval()
        self.weights = fingerprint(self.net)
        self._labels: dict[Hashable, list[str]] = {}

    def labels(self, concept: Concept) -> list[str]:
        """For each class of the network, the vocabulary's member that it is, or `NOTHING`."""
        kind = concept.vocabulary.kinds[concept.kind]
        key = (concept.member.name, concept.names, kind.name, kind.members)
        if key not in self._labels:
            self._labels[key] = [_member(label, kind, concept) for _, label in sorted(self.net.config.id2label.items())]
        return self._labels[key]

    def check(self, concept: Concept) -> None:
        if concept.member.name not in self.labels(concept):
            raise ExpungeError(
                f"{self.name} has no class called {concept.member.name!r}, so it cannot judge that concept.",
                rule="judge-lacks-concept",
                value=concept.member.name,
                hint="Try the class's name as a synonym in the vocabulary, or CLIP as the judge.",
            )

    def knows(self, member: str, concept: Concept) -> bool:
        return member in self.labels(concept)

    def chance(self, concept: Concept) -> float:
        labels = self.labels(concept)
        return labels.count(concept.member.name) / len(labels)

    @torch.no_grad()
    def __call__(self, images: Images, concept: Concept) -> Judgement:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.net.device)
        out = self.net(**inputs, output_hidden_states=True)
        last, labels = out.hidden_states[-1], self.labels(concept)
        features = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
        places, confidence = best_label(out.logits)
        return Judgement({concept.kind: tuple(labels[i] for i in places)}, features.float().cpu(), {concept.kind: confidence})


def _member(label: str, kind: Kind, concept: Concept) -> str:
    for part in (label, *label.split(",")):
        part = part.strip().replace("_", " ")
        if part.casefold() in (n.casefold() for n in (*concept.names, concept.member.name)):
            return concept.member.name
        if member := kind.find(part):
            return member.name
    return NOTHING
