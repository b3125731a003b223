"""A vision-language model as a judge: it is asked whether a picture shows the concept."""

import inspect
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import Images
from expunge.models.quiet import quiet
from expunge.storage.hashing import digest
from expunge.storage.tensors import fingerprint

SPELLINGS = ("yes", "Yes", "YES", " yes", " Yes", " YES"), ("no", "No", "NO", " no", " No", " NO")


class Answers:
    """Scores an image by a transformers image-text-to-text model's answer to a question about the concept:

        score = log sum_y exp(logit y) - log sum_n exp(logit n)

    over the spellings y of "yes" and n of "no" that are one token, for the first token of the answer. It is the log-odds of yes over no.

    Raises:
        ExpungeError: rule "unreadable-judge", a folder or id that holds no such model in safetensors, or whose tokenizer has no such token.
    """

    measures = "yes over no"

    def __init__(self, model: str, question: str, batch: int, device: str | torch.device, name: str):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.name, self.question, self.batch = name, question, batch
        try:
            with quiet():
                self.processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
                self.net = AutoModelForImageTextToText.from_pretrained(model, use_safetensors=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise ExpungeError(
                f"{model} cannot be read as a transformers image-text-to-text model in safetensors: {str(error).strip().splitlines()[0]}.",
                rule="unreadable-judge",
                value=model,
                hint="Try another folder or id.",
            ) from error
        self.net.to(device).eval()
        self.weights = f"{fingerprint(self.net)}+{digest(question)[:8]}"
        self.processor.tokenizer.padding_side = "left"  # so that the last place of every row is where the answer begins
        self.yes, self.no = ([i for text in of if (i := self._single(text)) is not None] for of in SPELLINGS)
        if not self.yes or not self.no:
            raise ExpungeError(
                f"The tokenizer of {model} has no token for yes or none for no.",
                rule="unreadable-judge",
                value=model,
                hint="Try another model.",
            )

    def _single(self, text: str) -> int | None:
        """The token of a text, if it is one."""
        tokenizer = self.processor.tokenizer
        ids = tokenizer.encode(text, add_special_tokens=False)
        return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None

    def confidence(self, score: float) -> float:
        """The probability of yes among yes and no."""
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, score))))

    def __call__(self, images: Images, concept: Concept) -> tuple[Float[Tensor, " b"], None]:
        text = self.question.format(concept=concept.vocabulary.kinds[concept.kind].alone.format(target=concept.member.name))
        return torch.cat([self._score(part, text) for part in images.split(self.batch)]), None

    @torch.no_grad()
    def _score(self, images: Images, text: str) -> Float[Tensor, " b"]:
        inputs = self._inputs(images, text).to(self.net.device, self.net.dtype)
        fewer = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.net.forward).parameters else {}
        logits = self.net(**inputs, **fewer).logits[:, -1].float()
        return (logits[:, self.yes].logsumexp(1) - logits[:, self.no].logsumexp(1)).cpu()

    def _inputs(self, images: Images, text: str) -> Any:
        """The question about each image, in the model's own form of a conversation if it has one."""
        from PIL import Image

        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.cpu()]
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": text}]
            prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        else:
            prompt = f"{getattr(self.processor, 'image_token', '')}{text}"
        return self.processor(images=[[p] for p in pictures], text=[prompt] * len(pictures), padding=True, return_tensors="pt")
