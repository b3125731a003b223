"""Everything that decides a run's result, resolved and checked before any work begins."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from expunge import config
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Origin, Several, Subject, Together
from expunge.concepts.tables import concept_table, slug
from expunge.errors import ExpungeError
from expunge.methods.base import Edit, Method, Objective, Training
from expunge.methods.config import Before, Layer, method_name
from expunge.models.attention import no_attention_maps
from expunge.models.base import DiffusionModel
from expunge.storage.code import modules_of
from expunge.storage.hashing import digest
from expunge.training.edit_prompts import refuse_edit
from expunge.training.identity import training_code
from expunge.training.preconditioner import refuse_whitening
from expunge.training.stopping import StoppingRule, refuse_other_rules


@dataclass(frozen=True)
class Start:
    """Where a stage begins: where another run ended."""

    run: str
    """Its id."""
    request: str
    """What was asked of it, whatever code made it."""
    reference: Origin


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run's result."""

    model: str
    fingerprint: str
    concept: Subject
    method: Method
    training: Training | None
    """None for closed forms."""
    seed: int
    dtype: str
    stop: StoppingRule | None = None
    """The rule that may end it before its last step."""
    start: Start | None = None
    """None: the base model."""
    before: tuple[Layer, ...] = ()
    """Other methods that remove the concept first, in turn, each from what the one before left."""
    family: tuple[str, ...] = ("expunge.models",)
    """The modules that the model's class comes from."""
    quantize: str | None = None
    """How the linear layers of the frozen network are stored, if otherwise than in `dtype`."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All methods in turn, the plan's own last."""
        return *self.before, Layer(self.method, self.training)

    @property
    def stages(self) -> "tuple[Plan, ...]":
        """A plan for each concept of a sequence, and for each method where several remove it, in turn; none where nothing is removed in
        stages.

        A stage knows of the concepts before it and not of those to come, so that the first is the run of its concept alone.
        """
        subjects, reference = self._in_turn
        if len(subjects) * len(self.layers) == 1:
            return ()
        made: list[Plan] = []
        for subject in subjects:
            for layer in self.layers:
                start = Start(made[-1].id, made[-1].request, reference) if made else None
                made.append(replace(self, concept=subject, method=layer.method, training=layer.training, start=start, before=()))
        return tuple(made)

    def part(self, stage: "Plan") -> str:
        """What tells one of the stages from the others: its concept in a sequence, its method where several remove one."""
        if not self.before:
            return stage.concept.target
        return stage.by if stage.concept.target == self.concept.target else f"{stage.by}, {stage.concept.target}"

    @property
    def by(self) -> str:
        """The methods in one word, as tables call them: "salun then mim-mu"."""
        return " then ".join(method_name(layer.method) for layer in self.layers)

    @property
    def _in_turn(self) -> tuple[list[Subject], Origin]:
        """The concepts to remove in turn, each of a sequence with the concepts before it in `removed`, and what later stages learn from."""
        if not isinstance(self.concept, Several) or self.concept.together != "sequential":
            return [self.concept], "original"
        alone = [replace(c, removed=()) for c in self.concept.parts]
        return [replace(c, removed=tuple(alone[:at])) for at, c in enumerate(alone)], self.concept.reference

    def referred(self, model: DiffusionModel) -> DiffusionModel:
        """The model under the fingerprint of the model that generates the run's images: stores must not take it for the base model."""
        if self.start is None or self.start.reference == "original":
            return model
        left = copy.copy(model)
        left.fingerprint = digest(model.fingerprint, self.start.run)
        return left

    @property
    def tables(self) -> dict[str, Any]:
        """The content of `config.toml`."""
        tables: dict[str, Any] = {
            "model": {"name": self.model, "fingerprint": self.fingerprint, "dtype": self.dtype, **self._stored},
            "seed": self.seed,
            "concept": concept_table(self.concept),
            **self.layers[-1].tables,
        }
        tables |= {"before": [layer.tables for layer in self.before]} if self.before else {}
        tables |= {"start": {"run": self.start.run, "reference": self.start.reference}} if self.start else {}
        return tables | ({"stop": self.stop.table()} if self.stop else {})

    @property
    def id(self) -> str:
        """The run's name: a digest of what was asked for, of the code that computes it (`training_code`) and of the vocabulary.

        An edited method gives another id, so that a repeated command does not return what the old code made.
        """
        words = asdict(self.concept.parts[0].vocabulary)  # a built-in one is known to the request by its name alone
        return self._named(self._deciding, self.code, self.start.run if self.start else None, words)

    @property
    def request(self) -> str:
        """A name of what was asked for alone: seeds follow from it, so that an edit of the code changes no random number."""
        return self._named(self._deciding)

    @property
    def code(self) -> str:
        """A digest of the code that decides the result."""
        return training_code((layer.method for layer in self.layers), self.family, self.stop)

    @property
    def _stored(self) -> dict[str, str]:
        return {"quantize": self.quantize} if self.quantize else {}

    @property
    def _deciding(self) -> dict[str, Any]:
        start = {"start": {"run": self.start.request, "reference": self.start.reference}} if self.start else {}
        model = {"fingerprint": self.fingerprint, "dtype": self.dtype, **self._stored}
        return self.tables | start | {"model": model, "version": config.version_of("expunge")}

    def _named(self, *deciding: object) -> str:
        names = (method_name(layer.method).rpartition(":")[2].lower() for layer in self.layers)
        return f"{'-then-'.join(names)}-{slug(self.concept)}-{digest(*deciding)[:10]}"


def make_plan(
    model: DiffusionModel,
    concept: str | Subject | Sequence[str | Concept],
    method: str | Method,
    *,
    together: Together = "joint",
    reference: Origin = "original",
    training: Training | Mapping[str, Any] | None = None,
    seed: int = 0,
    dtype: str = "fp32",
    stop: StoppingRule | None = None,
    before: Before | Sequence[Before] = (),
    **settings: Any,
) -> Plan:
    """Resolves names and defaults, and checks everything that can be checked before work begins."""
    refuse_other_rules(stop)
    concept = subject_of(concept, model, together, reference)
    before = [before] if isinstance(before, str | Mapping) or not isinstance(before, Sequence) else before
    # An argument may name code outside the package.
    layer, earlier = Layer.make(method, settings, training, allow_code=True), [Layer.of(b, allow_code=True) for b in before]
    joint = len(concept.parts) if isinstance(concept, Several) and concept.together == "joint" else 1
    layer, *earlier = (Layer(made.method, made.training and made.training.of_run(joint)) for made in (layer, *earlier))
    method, training = layer.method, layer.training
    if before and isinstance(concept, Several) and concept.reference == "previous":
        raise ExpungeError(
            "Methods that remove a concept one after another learn from the base model. The reference 'previous' is a model that has "
            "lost the concept already.",
            rule="reference-with-before",
            value="previous",
            hint="Try the reference 'original', which is the default.",
        )
    if before and stop:
        raise ExpungeError(
            f"A stopping rule is for one method. {len(before)} more run before {method_name(method)}.",
            rule="stop-with-before",
            value=len(before),
            hint="Try leaving the stopping rule out.",
        )
    if stop and training is None:
        raise ExpungeError(
            f"{method_name(method)} is a closed form and has no steps that a rule could stop.",
            rule="stop-of-closed-form",
            value=method_name(method),
            hint="Try leaving the stopping rule out.",
        )
    made = Plan(
        model.name, model.fingerprint, concept, method, training, seed, dtype, stop,
        before=tuple(earlier), family=modules_of(model), quantize=model.quantization,
    )  # fmt: skip
    assert made.id  # a rule without a name shows here
    for stage in made.stages or (made,):
        _check(stage, model)
    return made


def subject_of(
    given: str | Subject | Sequence[str | Concept], model: DiffusionModel, together: Together = "joint", reference: Origin = "original"
) -> Subject:
    """What is to be removed, names looked up in the words that go with the model; a list of one is that one."""
    if isinstance(given, Concept):
        return given
    if isinstance(given, Several):
        if (together, reference) not in {("joint", "original"), (given.together, given.reference)}:
            raise ExpungeError(
                f"{given.target!r} is {given.together} with reference {given.reference}. The arguments say {together} and {reference}.",
                rule="together-twice",
                value=(together, reference),
                hint="Try setting `together` and `reference` in Several.of only.",
            )
        return given
    world = model.defaults.vocabulary()
    found = [Concept.find(c, world) if isinstance(c, str) else c for c in ([given] if isinstance(given, str) else given)]
    return found[0] if len(found) == 1 else Several.of(found, together, reference)


def can_be_quantized(plan: Plan) -> bool:
    """Whether it could train beside linear layers that are stored in fewer bits."""
    try:
        for stage in plan.stages or (plan,):
            _refuse_quantized(replace(stage, quantize="nf4"))
    except ExpungeError:
        return False
    return True


def _refuse_quantized(plan: Plan) -> None:
    """Refuses what changes or replaces weights that are quantised."""
    if plan.quantize is None:
        return
    if not plan.method.scope.rank:
        raise ExpungeError(
            f"The scope {plan.method.scope.name!r} trains weights that --quantize {plan.quantize} stores in fewer bits.",
            rule="quantized-scope",
            value=plan.method.scope.name,
            hint="Try --variant xattn-lora, or leave --quantize out.",
        )
    if plan.start:
        raise ExpungeError(
            f"Stages start from changed weights, and those of the network are quantised ({plan.quantize}).",
            rule="quantized-stages",
            value=plan.quantize,
            hint="Try to leave --quantize out, or to remove the concepts in one batch.",
        )
    if plan.stop:
        raise ExpungeError(
            f"A stopping rule samples with changed weights, and those of the network are quantised ({plan.quantize}).",
            rule="quantized-stop",
            value=plan.quantize,
            hint="Try to leave one of them out.",
        )


def _check(plan: Plan, model: DiffusionModel) -> None:
    _refuse_quantized(plan)
    if "spans" in plan.method.needs and not model.has_attention_maps:
        raise no_attention_maps(model.family)
    if model.is_distilled and isinstance(plan.method, Objective) and plan.method.reads_null:
        raise ExpungeError(
            f"{method_name(plan.method)} reads the prediction without a prompt, which means nothing in a distilled model ({model.name}).",
            rule="no-null-condition",
            value=model.name,
            hint="Try the base model of the family, and add the LoRA to the distilled one; or mim-mu, which needs no such prediction.",
        )
    if isinstance(plan.method, Edit):
        refuse_edit(model, plan.method.scope)
    if (precision := model.precision) != plan.dtype:  # a model in memory keeps the precision that it was loaded in
        raise ExpungeError(
            f"The network is in {precision}, and the run's dtype is {plan.dtype}.",
            rule="other-precision",
            value=plan.dtype,
            hint=f"Try dtype={precision!r}, or load the model in {plan.dtype}.",
        )
    others, training, parts = plan.method.needs & {"marginal", "sibling", "surrogate"}, plan.training, plan.concept.parts
    for concept in parts:
        if others and concept.vocabulary.kinds[concept.kind].harmless and not concept.others:
            what, way = ("marginal", ", or --target-as context") if "marginal" in others else (min(others), "")
            targets = " and ".join(repr(c.target) for c in (concept, *concept.removed))
            raise ExpungeError(
                f"The {what} needs other members of the kind {concept.kind!r}, and the vocabulary has none besides {targets}.",
                rule="no-other-member",
                value=concept.target,
                hint=f"Try --vocabulary with a vocabulary that has some{way}.",
            )
    if training and min(training.pictures, training.points) < len(parts):
        raise ExpungeError(
            f"The run has {len(parts)} concepts, and only {training.pictures} images and {training.points} points to share among them.",
            rule="too-few-pictures",
            value=min(training.pictures, training.points),
            hint=f"Try --pictures {len(parts)} and --points {len(parts)} or more.",
        )
    if plan.start and plan.start.reference == "previous" and training is None:
        raise ExpungeError(
            f"{method_name(plan.method)} is a closed form. It edits the weights of the stage before and has no reference.",
            rule="reference-of-closed-form",
            value="previous",
            hint="Try leaving --reference out.",
        )
    if training and not training.whiten_layers:
        refuse_whitening(model, plan.method.scope, training.whiten)
    prompts = [p.prompt for p in plan.concept.forget()]  # unknown and truncated words show here
    if isinstance(plan.method, Edit):
        model.check_words(*prompts)  # encoding those of a thousand concepts takes minutes, and a closed form may read few
    else:
        model.encode(prompts)
