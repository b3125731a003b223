"""Supplant on numbers small enough to do by hand, and its replacement."""

from dataclasses import replace

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import Discrete
from expunge.diffusion.types import Cond, Noised
from expunge.methods.base import Training
from expunge.methods.config import Layer
from expunge.methods.supplant import RIDGE, Supplant
from expunge.models.scopes import SCOPES
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.anything import NEAREST, OtherNames, anything, nearest_words, other_names, other_words, tokenizer_words
from expunge.training.banks import images_of
from expunge.training.batches import gather
from expunge.training.beginning import RETAINED, begin
from expunge.training.loop import Trainer
from expunge.training.replacement import Replacements, choose, steadiest, ways_back
from expunge.training.state import TrainState

EPS = {"neon": 3.0, "ink": 1.0, "rose": -1.0}
READS_WORDS = ".attn2.to_k.", ".attn2.to_v."
TRAINING = tiny.TRAINING | {"retain_pictures": 8}


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def network(offset: float):
    """A network that predicts a constant: its prompt's number plus `offset`."""
    return lambda point: torch.stack([torch.full((1, 2, 2), EPS[k] + offset) for k in point.cond.keys])


def noised(key: str) -> Noised:
    return Noised(torch.zeros(1, 1, 2, 2), torch.tensor([5]), cond(key), ("p",), torch.zeros(1, 1, 2, 2))


def batch() -> Batch:
    prompts = {"replacement": cond("ink"), "replaced_as": cond("ink"), "other_words": cond("rose")}
    images = {"forget": noised("neon"), "replaced": noised("neon"), "anything": noised("rose"), "turned": noised("rose")}
    return Batch(0, cond("neon"), cond(""), {**images, **prompts})


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_terms(offset):
    """The goal on the concept's images moves with the student, the others are the base model's."""
    method = Supplant(word=2.0, image=5.0, show=3.0, lock=6.0, keep=4.0, turn=7.0)
    models = Models(network(offset), network(0.0), recalled=network(1.0), path=Discrete(torch.full((10,), 0.8)))
    expected = {
        "word": 2.0 * 2.0**2,
        "image": 5.0 * (3.0 + 1.0 - (1.0 + offset)) ** 2,
        "show": 3.0 * (2.0 + offset) ** 2,
        "lock": 6.0 * offset**2,
        "keep": 4.0 * offset**2,
        "turn": 7.0 * (-1 + offset) ** 2 * 0.2 / 0.8,  # of x_0 = (x_t - sigma eps) / signal
    }
    assert {name: value.item() for name, value in method(models, batch()).items()} == pytest.approx(expected)


def test_only_the_concepts_prompt_moves_on_its_images():
    said = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in EPS.items()}
    student = lambda point: torch.stack([said[key].expand(1, 2, 2) for key in point.cond.keys])  # noqa: E731
    terms = Supplant()(Models(student, network(0.0), recalled=student), batch())
    (terms["word"] + terms["image"]).backward()
    assert said["neon"].grad.item() == 2 * 2 * (3 - 1)
    assert said["ink"].grad is None


def test_the_image_is_removed_under_the_base_models_reading_of_the_name():
    """The student's own reading may change as it likes: the term does not, and has no gradient into it."""
    model, method = tiny.model(), Supplant()
    given = gather(tiny.session(model), tiny.concept(), method.needs, Training(**TRAINING), 0)
    state = TrainState(model, method.scope)
    try:
        trainer = Trainer(tiny.session(model), method, Training(**TRAINING, whiten=0.0), given, state)
        x, reading = given(0).forget, [name for name in state.trained if any(part in name for part in READS_WORDS)]
        before = trainer.recalled(x)
        for name in reading:
            state.trained[name].data += 1
        assert torch.equal(trainer.recalled(x), before)
        assert not torch.equal(trainer.student(x), before)
        trainer.recalled(x).sum().backward()
        assert [name for name, p in state.trained.items() if p.grad is None] == reading
    finally:
        state.release()


@pytest.fixture
def begun():
    """A trainer of a tiny network, before its first step."""
    model, method = tiny.model(), Supplant()
    session = tiny.session(model)
    given = gather(session, tiny.concept(), method.needs, Training(**TRAINING), 0)
    state = TrainState(model, method.scope)
    yield Trainer(session, method, Training(**TRAINING, whiten=0.0), given, state)
    state.release()


def test_it_begins_with_the_minimum_that_maps_the_name_to_its_replacement(begun):
    """The gradient of UCE's objective at the weights that read prompts is zero, so that they are its minimum: it is convex."""
    batches, state, preserve = begun.batches, begun.state, begun.method.preserve
    forget = [p.prompt for p in batches.concept.forget()], [batches.replacement(p) for p in batches.concept.forget()]
    e, g = (batches.model.encode(texts).states.flatten(0, 1).double() for texts in forget)
    words = other_names(batches.model, batches.concept)
    sentences = [forget[0][i % len(forget[0])] for i in range(RETAINED)]
    p = batches.model.encode(
        list(dict.fromkeys(anything(batches.model, batches.concept, OtherNames(words, words), sentences, 0)))
    ).tokens.double()
    names = [name for name in state.trained if any(part in name for part in READS_WORDS)]
    assert names
    for name in names:
        w, w_0 = state.trained[name].detach().double(), state.base[name].double()
        pulls = [(w @ e.T - w_0 @ g.T) @ e, preserve * (w - w_0) @ p.T @ p, RIDGE * (w - w_0)]
        assert sum(pulls).norm() < 1e-4 * pulls[0].norm()
        assert pulls[0].norm() > 0


def test_every_second_other_word_is_read_like_the_name(begun):
    """The nearest words by the states of the whole prompt, worked out one by one."""
    model, concept = begun.batches.model, begun.batches.concept
    prompts = [p.prompt for p in concept.forget()] * 40
    [bare] = {p.prompt for p in concept.forget() if p.is_bare}
    own = model.encode([bare]).states
    words = tokenizer_words(model.readings[0].tokenizer, set(concept.names))
    far = {word: (model.encode([bare.replace(concept.target, word)]).states - own).norm().item() for word in words}
    near = set(sorted(words, key=far.get)[:NEAREST])
    made = other_words(model, concept, OtherNames.of(model, concept, 0), prompts, 0)
    found = [{word for word in words if prompt.replace(concept.target, word) == other} for prompt, other in zip(prompts, made, strict=True)]
    assert set.union(*found[1::2]) == near
    assert len(set.union(*found[::2])) > NEAREST


def test_half_of_the_random_prompts_name_a_near_word(begun):
    """In "neon style" each word then becomes a random one with a probability of 1 / 4, so that 3 / 8 of the prompts begin with it."""
    model, concept = begun.batches.model, begun.batches.concept
    made = anything(model, concept, OtherNames(["ring"], ["disc"]), ["neon style"] * 1600, 0)
    first = [prompt.split()[0] for prompt in made if prompt]
    assert set(first) == {"ring", "disc"}
    assert first.count("disc") / len(first) == pytest.approx(3 / 8, abs=0.04)


def test_images_of_the_concept_are_turned_into_images_from_the_same_noise(made):
    """The goal at each point is the prompt's image; the point is the noised image of the concept that began with the same noise."""
    model, y, training = made.model, made.banks["turned"].points, Training(**TRAINING)
    chosen, seeds = images_of(made.concept, training, 0)
    count = training.retain_pictures
    paired = [seeds[i % len(seeds)] for i in range(count)]
    images = model.sample_latents(model.encode(y.cond.keys[:count]), paired, model.default_sampler)
    own = model.sample_latents(model.encode([p.prompt for p in chosen]), seeds, model.default_sampler)
    x_0 = model.path.x_0(y.goal, y.x_t, y.t)
    torch.testing.assert_close(x_0, images[[i % count for i in range(len(y))]], atol=1e-4, rtol=1e-3)
    signal, sigma = model.path.coefficients(y.t, y.x_t)
    noise = (y.x_t - signal * own[[i % count % len(own) for i in range(len(y))]]) / sigma
    assert noise.mean().abs() < 0.1
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    assert not {"neon", "glow"} & {word for key in y.cond.keys for word in key.split()}
    assert 0.05 * model.path.horizon < y.t.min() < y.t.max() < 0.75 * model.path.horizon


def test_a_low_rank_variant_begins_with_the_base_model():
    model, method = tiny.model(), Supplant(variant="xattn-lora")
    state = TrainState(model, method.scope)
    try:
        begin(method, gather(tiny.session(model), tiny.concept(), method.needs, Training(**TRAINING), 0), state)
        assert all(torch.equal(value, state.initial[name]) for name, value in state.trained.items())
    finally:
        state.release()


@pytest.fixture(scope="module")
def made():
    return gather(tiny.session(), tiny.concept("neon", synonyms=("glow",)), Supplant().needs, Training(**TRAINING), 0)


def test_one_member_replaces_the_concept_everywhere(made):
    """In every prompt, under both names, and in the images."""
    prompts = {p.prompt: p for p in made.concept.forget()}
    places = set()
    for name in ("forget", "replaced"):
        bank = made.banks[name]
        for own, other in zip(bank.points.cond.keys, bank.replacements, strict=True):
            places.add(prompts[own].marginals.index(other))
    assert len(places) == 1
    given = made(0)
    assert [prompts[k].marginals.index(o) for k, o in zip(given.forget.cond.keys, given.replacement.keys, strict=True)] == [*places] * 4
    assert [prompts[k].marginals.index(o) for k, o in zip(given.replaced.cond.keys, given.replaced_as.keys, strict=True)] == [*places] * 4


def test_the_replacement_has_the_longest_way_back_to_the_concept(made, monkeypatch):
    """Against a network that predicts the place of the prompt's style on a line: the farthest member stands just behind another one."""
    bank, concept = made.banks["forget"], made.concept
    order = [m.name for m in concept.others]
    marks = dict.fromkeys(order, 1.0) | {order[4]: 10.0, order[5]: 11.0, order[6]: -6.0} | {"neon": 0.0, "glow": 0.0}

    def predict(point, weights=None):
        marked = [next(v for n, v in marks.items() if n in key.split()) for key in point.cond.keys]
        return torch.tensor(marked)[:, None, None, None].expand(-1, 4, 8, 8)

    monkeypatch.setattr(made.model, "predict", predict)
    # Ways back: from 10 to the middle between 10 and 1, which is 4.5 long; from 11 to that with 10, 0.5; from -6 to that with 0, 3.
    assert steadiest(made.model, concept, bank, bank.groups[0]) == 4


def test_ways_back_by_hand():
    """The concept is the origin. From (4, 0) the way to it is nearest to (2, 0.5) after 4.25 / 4."""
    e = torch.tensor([[4.0, 0.0], [2.0, 0.5], [0.0, 3.0], [-3.0, -3.0]])
    to_itself = [(2.0**2 + 0.5**2) ** 0.5 / 2, 1.5, 18**0.5 / 2]  # where the concept is the nearest: half the distance
    torch.testing.assert_close(ways_back(e), torch.tensor([4.25 / 4, *to_itself]))


def test_a_member_that_is_predicted_as_the_concept_has_no_way_back():
    assert ways_back(torch.tensor([[0.0, 0.0], [0.0, 3.0]])).tolist() == [0.0, 1.5]


def test_words_are_compared_with_a_name_in_its_own_prompt(made, monkeypatch):
    """Also if another name, which comes first, holds it."""
    concept, seen = replace(made.concept, synonyms=("neo",)), []

    def encode(prompts):
        seen.extend(prompts)
        return Cond(torch.zeros(len(prompts), 2, 4), tuple(prompts))

    monkeypatch.setattr(made.model, "encode", encode)
    nearest_words(made.model, concept, ["ring", "disc"], torch.Generator().manual_seed(0))
    assert sorted(seen) == sorted(["neon style", "neo style", *2 * ["ring style", "disc style"]])


def test_an_anchor_is_the_replacement(made):
    concept = replace(made.concept, anchor="sketch")
    bank = replace(
        made.banks["forget"], prompts=tuple({p.prompt: p for p in concept.forget()}[k] for k in made.banks["forget"].points.cond.keys)
    )
    replaced = choose(made.model, concept, bank).beside(bank).replacements
    assert all("sketch" in other for other in replaced)


def test_where_nothing_may_replace_it_the_prompt_loses_the_concept(made):
    prompt = replace(made.concept.forget()[0], marginals=())
    assert Replacements({})(replace(prompt, anchor=prompt.context)) == prompt.context


class Interrupted(Exception):
    pass


def interrupt(steps, start, total):
    for step in steps:
        yield step
        if step.step == 5:
            raise Interrupted


def test_a_resumed_run_ends_where_a_straight_one_does(tmp_path):
    """Its whitening is computed anew, from the same images."""

    def run(folder, watch=None):
        training = TRAINING | {"checkpoint_every": 2}
        options = {"out": folder, "cache": Store(tmp_path / "store"), "progress": tiny.watching(watch)}
        unlearn(tiny.model(), tiny.concept(), "supplant", training=training, **options)
        return (folder / "delta.safetensors").read_bytes(), (folder / "log.jsonl").read_bytes()

    with pytest.raises(Interrupted):
        run(tmp_path / "resumed", interrupt)
    assert run(tmp_path / "resumed") == run(tmp_path / "straight")


def test_it_trains_everything_by_default():
    assert Supplant().scope == SCOPES["full"]


def test_no_setting_hides_the_methods_name_in_its_tables():
    assert Layer.make("supplant", {}, None).tables["method"]["name"] == "supplant"
