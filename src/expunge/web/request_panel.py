"""The part of the page that prepares an `expunge unlearn` command: a form, and text to copy."""

from nicegui import ui

from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.methods import METHODS
from expunge.web.elements import area
from expunge.web.request import Request, command_for


class RequestPanel:
    """A form. What it makes is shown, never run."""

    def __init__(self, concept: Concept, model: str, attacks: list[str]):
        self._attacks = attacks
        vocabulary = concept.vocabulary
        with area("controls"):
            self._method = ui.select(list(METHODS), label="Method", value=next(iter(METHODS)), with_input=True)
            self._model = ui.input("Base model", value=model)
            self._target = ui.input("Concept to remove", value=concept.target, autocomplete=vocabulary.names)
            self._synonyms = ui.input("Its other names, with commas between", value=", ".join(concept.known[1:]))
            with area("numbers wide"):
                self._kind = ui.select(list(vocabulary.kinds), label="Kind, if it is new", clearable=True)
                self._steps = ui.number("Training steps", min=1, precision=0, placeholder="the method's").props("stack-label")
                self._seed = ui.number("Seed", value=0, min=0, precision=0)
                self._accept = ui.input("Acceptance criterion", placeholder="UA>=0.98, NRA>=-0.02").props("stack-label")
        with area("bar"):
            ui.button("Prepare the command", on_click=self.prepare).props("no-caps unelevated")
            self._copy = ui.button("Copy", on_click=self._copy_command).props("no-caps flat")
            self._problem = ui.label().classes("problem").props("role=alert")
        self._command: ui.label = ui.label().classes("command")
        self._show("")

    def prepare(self) -> None:
        """Shows the command, or why there is none."""
        names = [name.strip() for name in self._synonyms.value.split(",") if name.strip()]
        request = Request(
            self._method.value,
            self._target.value,
            self._model.value,
            names,
            self._kind.value,
            None if self._steps.value is None else int(self._steps.value),
            int(self._seed.value or 0),
            self._accept.value,
        )
        try:
            self._show(command_for(request, self._attacks))
            self._problem.text = ""
        except ExpungeError as error:
            self._show("")
            self._problem.text = str(error)

    def _copy_command(self) -> None:
        ui.clipboard.write(self._command.text)

    def _show(self, command: str) -> None:
        self._command.text = command
        self._command.visible = self._copy.visible = bool(command)
