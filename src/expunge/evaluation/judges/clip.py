"""CLIP as a judge."""

import torch
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Kind
from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import Images, Judgement, best_label, embedding
from expunge.models.quiet import quiet
from expunge.storage.tensors import fingerprint


class CLIPJudge:
    """CLIP as a zero-shot classifier: each kind's members, put into the kind's prompt template, are the labels.

    Choose it where no classifier knows the concept. It always names one member of the vocabulary, so a vocabulary with few members
    makes it see the concept often by chance.

    Raises:
        ExpungeError: rule "unreadable-judge", a folder or id that holds no CLIP in safetensors.
    """

    def __init__(self, model: str, device: str | torch.device = "cpu"):
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

        self.name = model
        try:
            with quiet():
                self.processor = CLIPImageProcessor.from_pretrained(model, trust_remote_code=False)
                self.net = CLIPModel.from_pretrained(model, use_safetensors=True, trust_remote_code=False)
                self.tokenizer = CLIPTokenizer.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ExpungeError(
                f"{model} cannot be read as a CLIP in safetensors: {str(error).strip().splitlines()[0]}.",
                rule="unreadable-judge",
                value=model,
                hint="Try another folder or id.",
            ) from error
        self.net.to(device).eval()
        self.weights = fingerprint(self.net)
        self._texts: dict[tuple[str, ...], Tensor] = {}

    @staticmethod
    def labels(concept: Concept) -> dict[str, tuple[str, ...]]:
        """The names that it chooses among, of the concept's kind and of its partner's."""
        own = concept.vocabulary.kinds[concept.kind]
        partners = [concept.vocabulary.kinds[own.partner]] if own.partner else []
        names = {kind.name: tuple(m.name for m in kind.members) for kind in (own, *partners)}
        if concept.member.name not in names[own.name]:
            names[own.name] += (concept.member.name,)
        return names

    def check(self, concept: Concept) -> None:
        """Whatever the concept is called is one of its labels."""

    def knows(self, member: str, concept: Concept) -> bool:
        """Whatever a member is called is one of its labels."""
        return True

    def chance(self, concept: Concept) -> float:
        return 1 / len(self.labels(concept)[concept.kind])

    def _embedded(self, kind: Kind, names: tuple[str, ...]) -> Tensor:
        """The normalised embeddings of a kind's prompts; computed once."""
        texts = tuple(kind.alone.format(target=n) for n in names)
        if texts not in self._texts:
            tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
            states = embedding(self.net.get_text_features(**tokens.to(self.net.device)))
            self._texts[texts] = torch.nn.functional.normalize(states, dim=-1)
        return self._texts[texts]

    @torch.no_grad()
    def __call__(self, images: Images, concept: Concept) -> Judgement:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.net.device)
        features = embedding(self.net.get_image_features(**inputs))
        scale = self.net.logit_scale.exp() / features.norm(dim=1, keepdim=True)
        seen, confidence = {}, {}
        for kind, names in self.labels(concept).items():
            places, confidence[kind] = best_label(scale * (features @ self._embedded(concept.vocabulary.kinds[kind], names).T))
            seen[kind] = tuple(names[i] for i in places)
        return Judgement(seen, features.float().cpu(), confidence)
