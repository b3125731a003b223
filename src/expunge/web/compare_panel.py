"""The part of the page that compares: a prompt, the strength of the erasure, and images of both models from the same noise."""

import base64
import io
from collections.abc import Mapping

from nicegui import run as threads
from nicegui import ui
from PIL import Image

from expunge.concepts.groups import Subject
from expunge.config import build
from expunge.errors import ExpungeError
from expunge.evaluation.protocol import spread
from expunge.models.sampling import Sampler
from expunge.web.comparison import STRONGEST, Comparison, Wish
from expunge.web.elements import area, text

CHIPS = {"target": 2, "synonyms": 1, "siblings": 1, "same_domain": 1, "cross_domain": 1}
"""How many prompts of each probe are one click away."""
LISTED = 60
"""At most this many prompts of each probe are in the list."""


class ComparePanel:
    """Two columns of images and what decides them. Each visitor has one; all share the network."""

    def __init__(self, comparison: Comparison, subject: Subject):
        self._comparison = comparison
        self._turn = 0
        """Counts what was asked for. When it moves on, no further image of an older wish is shown."""
        with area("controls"):
            self._build_prompt(subject)
            with area("strength"):
                label = ui.label()
                self._strength = ui.slider(min=0, max=STRONGEST, step=0.05, value=1).on("change", self.draw)
                self._strength.props["aria-label"] = "Strength of the erasure"
                label.bind_text_from(self._strength, "value", lambda s: f"Strength of the erasure: {s:.2f} (0: base model, 1: the run)")
            self._build_numbers(comparison.session.model.default_sampler)
        with area("bar"):
            ui.button("Generate", on_click=self.draw).props("no-caps unelevated")
            blur = ui.switch("Blur the images", value=_is_unsafe(subject), on_change=lambda e: self._blur(e.value))
            self._status = ui.label().classes("status").props("role=status")
            self._problem = ui.label().classes("problem").props("role=alert")
        with area("panels") as self._panels:
            self._columns = _column("Base model"), _column("Unlearned")
        self._blur(blur.value)

    def _build_prompt(self, subject: Subject) -> None:
        listed = _prompts(subject, dict.fromkeys(CHIPS, LISTED))
        self._prompt = ui.input("Prompt", value=next(iter(listed), "")).classes("wide").on("keydown.enter", self.draw)
        with area("examples wide"):
            for prompt in _prompts(subject, CHIPS):
                ui.button(prompt, on_click=lambda _, words=prompt: self._prompt.set_value(words)).props("flat dense no-caps")
        ui.select(listed, label="Prompts of the vocabulary", with_input=True, on_change=lambda e: self._prompt.set_value(e.value))

    def _build_numbers(self, default: Sampler) -> None:
        with area("numbers wide"):
            self._images = ui.number("Images", value=4, min=1, max=64, precision=0)
            self._seed = ui.number("First seed", value=0, min=0, precision=0)
            self._steps = ui.number("Denoising steps", value=default.steps, min=1, precision=0)
            self._guidance = ui.number("Guidance", value=default.guidance_scale, min=0, step=0.5)

    async def draw(self) -> None:
        """Shows images as they are sampled. What is asked for meanwhile takes their place."""
        self._turn += 1
        turn, shown = self._turn, 0
        self._problem.text = ""
        try:
            wish = self._read()
            pairs = self._comparison.draw(wish)
            self._status.text = f"Sampling {wish.images} images of each model"
            while pair := await threads.io_bound(next, pairs, None):
                if turn != self._turn:
                    return
                for column, image, name in zip(self._columns, (pair.base, pair.unlearned), ("Base model", "Unlearned"), strict=True):
                    if not shown:
                        column.clear()
                    with column:
                        _show(image, f"{name}, seed {pair.seed}: {wish.prompt or 'the empty prompt'}")
                shown += 1
            self._status.text = f"{shown} images of each model, seeds {wish.seed} to {wish.seed + shown - 1}, strength {wish.strength:.2f}"
        except ExpungeError as error:
            self._status.text, self._problem.text = "", str(error)

    def _read(self) -> Wish:
        sampler = build(Sampler, {"steps": self._steps.value, "guidance_scale": self._guidance.value}, "the sampler")
        given = {"prompt": self._prompt.value or "", "seed": self._seed.value, "images": self._images.value}
        return build(Wish, given | {"strength": self._strength.value, "sampler": sampler}, "the comparison", "the page")

    def _blur(self, is_blurred: bool) -> None:
        self._panels.classes(**{"add" if is_blurred else "remove": "blurred"})


def _prompts(subject: Subject, counts: Mapping[str, int]) -> list[str]:
    """Prompts of the vocabulary for the removed concepts, at most this many of each probe, spread over all."""
    found = {probe: [p.prompt for part in subject.parts for p in part.probes()[probe]] for probe in counts}
    return list(dict.fromkeys(p for probe, prompts in found.items() for p in spread(prompts, min(counts[probe], len(prompts)))))


def _is_unsafe(subject: Subject) -> bool:
    return any(not part.vocabulary.kinds[part.kind].harmless for part in subject.parts)


def _column(name: str) -> ui.element:
    with area("panel"):
        text("h3", name)
        return area("shots")


def _show(image: Image.Image, alt: str) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    shown = ui.element("img")
    shown.props.update(src=f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", alt=alt)
