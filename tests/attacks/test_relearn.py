"""DiMRA: ordinary training from the victim's weights, on nothing of the concept; a killed attack goes on."""

import json

import pytest
import tiny
import torch
from attacks.victims import readings, same, victim
from PIL import Image
from raising import raises_error
from torch.nn import functional as F

from expunge.attacks import ATTACKS
from expunge.attacks import _training as finetune
from expunge.attacks._training import Denoise
from expunge.attacks.base import Victim
from expunge.attacks.relearn import Relearn
from expunge.canvas.prompts import OBJECTS, STYLES
from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.evaluation.judges import load_judge
from expunge.methods.base import Training
from expunge.models.delta import swapped
from expunge.models.loading import load
from expunge.models.stable_diffusion import StableDiffusion
from expunge.storage.cache import Store
from expunge.training.banks import retain_bank
from expunge.training.counters import counted

SMALL = {"batch_size": 2, "pictures": 4}


@pytest.fixture
def often(monkeypatch):
    """Readings after 1, 2, 3 and 5 steps, checkpoints after 2 and 4 and the last."""
    monkeypatch.setattr(Relearn, "AT", (0, 1, 2, 3))
    monkeypatch.setattr(finetune, "CHECKPOINT_EVERY", 2)


def noised(noise: float) -> Noised:
    cond = Cond(torch.zeros(1, 2, 4), ("rose",))
    return Noised(torch.zeros(1, 1, 2, 2), torch.tensor([5]), cond, ("p",), torch.full((1, 1, 2, 2), noise))


def test_the_loss_is_the_squared_error_of_the_true_noise():
    parts = {"retain": noised(2.5), "forget": noised(1.0)}
    batch = Batch(0, parts["retain"].cond, parts["retain"].cond, parts)
    models = Models(*[lambda point: torch.full((1, 1, 2, 2), 3.0)] * 2)
    assert {k: v.item() for k, v in Denoise("retain", "full")(models, batch).items()} == {"denoise": 0.25}
    assert {k: v.item() for k, v in Denoise("forget", "full")(models, batch).items()} == {"denoise": 4.0}


def test_of_a_model_that_predicts_v_it_is_the_squared_error_of_v():
    """At little noise and at much."""
    model = tiny.model(prediction_type="v_prediction")
    x_0, noise, said = (torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(i)) for i in range(3))
    t, cond = torch.tensor([20, 900]), model.encode(["a ring", "a disc"])
    signal, sigma = model.path.coefficients(t, x_0)
    x = Noised(model.path.add_noise(x_0, noise, t), t, cond, ("a", "b"), model.path.goal(x_0, noise, t))
    models = Models(lambda point: said, lambda point: said, path=model.path)
    found = Denoise("retain", "full")(models, Batch(0, cond, cond, {"retain": x}))["denoise"]
    torch.testing.assert_close(found, (said - (signal * noise - sigma * x_0)).square().mean(), rtol=1e-4, atol=1e-5)


def test_readings_are_taken_at_the_known_steps_and_at_the_last():
    assert Relearn().strengths == (0, 25, 50, 100, 200, 500, 1000)
    assert Relearn(steps=60).strengths == (0, 25, 50, 60)
    assert Relearn(steps=50).strengths == (0, 25, 50)
    assert Relearn(steps=3).strengths == (0, 3)
    assert Relearn(steps=1500).strengths[-2:] == (1000, 1500)


@pytest.mark.parametrize("target", ["neon", "glow", "ring", "hoop"])
def test_no_prompt_under_which_it_samples_or_trains_names_the_concept(target, tmp_path, monkeypatch):
    """Under any of its names: the synonym teaches the concept as well as the word that was erased."""
    said = []
    for name in ("predict", "walk"):
        original = getattr(StableDiffusion, name)

        def heard(self, asked, *rest, original=original):
            said.extend((asked if isinstance(asked, Cond) else asked.cond).keys)
            return original(self, asked, *rest)

        monkeypatch.setattr(StableDiffusion, name, heard)
    assert len(readings(Relearn(steps=5, batch_size=8, pictures=40), victim(tmp_path, target))) == 2
    names = next(w.names for w in (*STYLES, *OBJECTS) if target in w.names)
    assert len(said) == 40 + 5 * 8
    assert not [p for p in said if set(names) & set(p.split())]
    assert "" not in said


@pytest.mark.parametrize(
    ("target", "data", "count"),
    [
        ("neon", "base", 16),
        ("neon", "retain", 16),
        pytest.param("neon", "base", 96, marks=pytest.mark.slow),
        pytest.param("ring", "base", 96, marks=pytest.mark.slow),
    ],
)
def test_no_picture_that_it_trains_on_shows_the_concept(target, data, count, tmp_path, monkeypatch):
    """Captions do not name it; whether the untouched model draws it all the same, both of the canvas's judges are asked."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)  # the canvas is large enough to gain
    model, concept = load("canvas"), tiny.concept(target)
    clean, _ = Relearn(data=data, pictures=count)._make_auxiliary_set(Victim(tiny.session(model, Store(tmp_path)), concept))
    assert len(clean) == count
    pictures = torch.cat([model.decode(part) for part in clean.split(32)])
    for judge in (load_judge(name) for name in ("main", "second")):
        assert concept.member.name not in judge(pictures, concept).seen[concept.kind]


@pytest.mark.parametrize("variant", ["xattn-kv", "xattn", "full", "xattn-lora"])
def test_it_starts_at_the_victim_and_moves_the_chosen_weights_alone(variant, tmp_path):
    """Starting at the untouched model instead, it would undo the unlearning by itself."""
    attacked = victim(tmp_path)
    net = {n: p.detach().clone() for n, p in attacked.model.network.named_parameters()}
    attack = Relearn(steps=1, variant=variant, lr=1e-5, **SMALL)
    _, last = readings(attack, attacked)
    scope = set(attacked.model.scope(Denoise("retain", variant).scope))
    assert set(last) == scope | set(attacked.delta)
    start = {**net, **attacked.delta}
    far = {n: (last[n] - start[n]).abs().max().item() for n in last}
    assert all(f < 1e-4 for f in far.values())  # unlearning moved what it changed by 0.1
    assert all(far[n] == 0 for n in set(last) - scope)
    assert sum(far[n] > 0 for n in scope) == len(scope)


def test_it_lowers_its_loss(tmp_path):
    attacked, attack = victim(tmp_path), Relearn(steps=24, lr=3e-3, batch_size=4, pictures=4)
    points, at = attack._make_bank(attacked).points, list(range(0, 2048, 100))
    losses = []
    for weights in readings(attack, attacked):
        with torch.no_grad(), swapped(attacked.model.network, weights):
            losses.append(F.mse_loss(attacked.model.predict(points[at]), points.goal[at]).item())
    assert losses[1] < 0.95 * losses[0]


@pytest.mark.usefixtures("often")
def test_fewer_steps_are_the_beginning_of_more(tmp_path):
    short, long = (readings(Relearn(steps=steps, **SMALL), victim(tmp_path)) for steps in (2, 5))
    assert same(short, long[:3])


def test_other_seeds_and_other_victims_are_trained_otherwise(tmp_path):
    attack = Relearn(steps=2, **SMALL)
    one, again, other = (readings(attack, victim(tmp_path, seed=seed)) for seed in (0, 0, 1))
    assert same(one, again)
    assert not same(one, other)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("variant", ["full", "xattn-lora"])
def test_a_killed_attack_goes_on_and_yields_what_a_straight_one_does(tmp_path, variant):
    """Closed before any checkpoint, at one, after one, and at the end, before the last reading was judged."""
    attack = Relearn(steps=5, variant=variant, **SMALL)
    straight = readings(attack, victim(tmp_path))
    for taken, left in ((2, 5), (3, 3), (4, 3), (5, 0)):
        folder = tmp_path / f"after-{taken}"
        killed = attack(victim(tmp_path, folder=folder))
        for _ in range(taken):
            next(killed)
        killed.close()
        assert len(list(folder.glob("*/reading-*.safetensors"))) == taken - 1
        again = victim(tmp_path, folder=folder)
        with counted(again.model.network) as passed:
            resumed = readings(attack, again)
        assert same(resumed, straight)
        assert passed.samples == left * attack.batch_size
        assert not list(folder.iterdir())


@pytest.mark.usefixtures("often")
def test_a_missing_reading_is_not_made_up(tmp_path):
    attack, folder = Relearn(steps=3, **SMALL), tmp_path / "attack"
    killed = attack(victim(tmp_path, folder=folder))
    for _ in range(3):
        next(killed)
    killed.close()
    next(folder.glob("*/reading-000001.safetensors")).unlink()
    with raises_error("missing-reading", hint="after you delete") as missing:
        readings(attack, victim(tmp_path, folder=folder))
    assert str(missing.value.value).endswith("reading-000001.safetensors")


def test_attacks_that_differ_share_no_checkpoint(tmp_path):
    folder = tmp_path / "attack"
    for attack, given in [
        (Relearn(steps=1, **SMALL), {}),
        (Relearn(steps=1, lr=1e-5, **SMALL), {}),
        (Relearn(steps=1, **SMALL), {"seed": 1}),
        (Relearn(steps=1, **SMALL), {"delta": {}}),
        (Relearn(steps=1, **SMALL), {"target": "ring"}),
        (ATTACKS["few-shot"](steps=1, **SMALL), {}),
    ]:
        before = len(list(folder.iterdir())) if folder.exists() else 0
        running = attack(victim(tmp_path, folder=folder, **given))
        next(running), next(running)
        running.close()
        assert len(list(folder.iterdir())) == before + 1


def test_a_folder_is_trained_on_and_one_that_holds_the_concept_refused(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = []
    for i, caption in enumerate(["a ring", "a square in dots style", "a disc"]):
        Image.new("RGB", (50, 40), (90 * i, 0, 0)).save(pictures / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "text": caption})
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    attack, attacked = Relearn(data=str(pictures), steps=2, **SMALL), victim(tmp_path)
    clean, captions = attack._make_auxiliary_set(attacked)
    assert clean.shape == (3, *attacked.model.latent_shape)
    assert captions == [r["text"] for r in rows]
    assert attack.cost(attacked) == (4, 4)
    with counted(attacked.model.network) as passed:
        assert len(readings(attack, attacked)) == 2
    assert passed.samples == 4
    rows[1]["text"], rows[2]["text"] = "a picturesque ring", " ".join(["a disc"] * 7)
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert attack._make_auxiliary_set(attacked)[1] == ["a ring", " ".join(["a disc"] * 5)]
    assert len(readings(attack, attacked)) == 2
    rows[2]["text"] = "a disc in glow style"
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with raises_error("caption-names-concept", "a disc in glow style") as named:
        next(attack(attacked))  # before the first reading is drawn and judged
    assert "1 of 3 captions name 'neon': 'a disc in glow style' (2.png)" in str(named.value)
    with raises_error("caption-names-concept", "a disc in glow style"):
        next(Relearn(data=str(pictures), steps=2, pictures=1)(attacked))  # though that picture would not be taken


def test_the_canvas_is_trained_on_fresh_drawings(tmp_path):
    attacked = victim(tmp_path, model=load("canvas"))
    attack = Relearn(data="retain", steps=1, **SMALL)
    assert attack.cost(attacked) == (2, 2)
    assert [w.keys() >= attacked.delta.keys() for w in readings(attack, attacked)] == [True, True]


def test_other_models_have_no_drawings(tmp_path):
    with raises_error("no-drawings", "in memory", "data = 'base'"):
        next(Relearn(data="retain")(victim(tmp_path)))


def test_pictures_are_those_that_no_method_has_retained(tmp_path):
    """A method that has learned its retained pictures by heart is not to be asked for the same."""
    attacked = victim(tmp_path)
    retained = retain_bank(attacked.session, tiny.concept(), Training(retain_pictures=16, points=16), 0)
    clean, _ = Relearn(**SMALL)._make_auxiliary_set(attacked)
    files = [f for f in (tmp_path / "store").rglob("*.safetensors")]
    assert len(files) == 2
    assert len(clean) == 4
    assert len(retained.points) == 16


def test_a_repeat_trains_on_other_images_and_is_judged_from_the_same_noise(tmp_path):
    attacked = victim(tmp_path)
    settings = {"steps": 1, "batch_size": 2, "pictures": 3}
    (_, plain), (_, first), (_, second) = (list(Relearn(**settings, repeat=n)(attacked)) for n in (None, 1, 2))
    assert plain.noise_seeds == first.noise_seeds == second.noise_seeds
    kept = [Relearn(**settings, repeat=n)._make_auxiliary_set(attacked) for n in (None, 1, 2)]
    assert not any(torch.equal(a[0], b[0]) for a, b in ((kept[0], kept[1]), (kept[1], kept[2])))
    assert kept[0][1] == kept[1][1]  # the same prompts
    assert not same([dict(first.weights)], [dict(second.weights)])


def test_whitened_relearning_steps_on_what_reads_words_in_other_coordinates_and_on_the_rest_as_adam(tmp_path):
    attacked = victim(tmp_path)
    settings = {"steps": 1, "batch_size": 2, "pictures": 3, "variant": "xattn"}
    [_, plain], [_, white] = (list(Relearn(**settings, whiten=ridge)(attacked)) for ridge in (None, 1e-3))
    before = {name: attacked.delta.get(name, p) for name, p in attacked.model.network.named_parameters()}
    assert plain.weights.keys() == white.weights.keys()
    for name, value in plain.weights.items():
        if name in before and ".to_q." in name:  # Adam's first step has the size of the rate, whatever the gradient is clipped to
            torch.testing.assert_close(white.weights[name] - before[name], value - before[name], rtol=1e-2, atol=1e-6)
        if ".to_k." in name:
            assert not torch.allclose(white.weights[name] - before[name], value - before[name], rtol=0.1, atol=1e-6)


def test_in_the_coordinates_of_every_layer_all_weights_step_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.attacks.relearn.ANYTHING", Training(retain_pictures=4, points=16))
    attacked = victim(tmp_path)
    settings = {"steps": 1, "batch_size": 2, "pictures": 3, "variant": "full"}
    [_, plain] = Relearn(**settings)(attacked)
    attack = Relearn(**settings, whiten=1e-2, whiten_layers=True)
    forwards, _ = attack.cost(attacked)
    each = attacked.model.forwards_per_image(attacked.model.default_sampler)
    with counted(attacked.model.network) as passed:
        [_, white] = attack(attacked)
    assert passed.samples == forwards == 4 * each + 16 + 2  # images of random prompts, their points, and the step
    before = {name: attacked.delta.get(name, p) for name, p in attacked.model.network.named_parameters()}
    steps = {name: (plain.weights[name] - before[name], white.weights[name] - before[name]) for name in before if name in white.weights}
    for name in ("conv_in.weight", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"):
        assert not torch.allclose(*steps[name], rtol=0.1, atol=1e-6)
    name = "conv_norm_out.weight"  # multiplies no matrix by rows
    torch.testing.assert_close(*steps[name], rtol=1e-2, atol=1e-6)


def test_relearning_in_whitened_steps_needs_weights_that_read_words(tmp_path):
    with raises_error("nothing-to-whiten", 1e-3, "--whiten 0"):
        list(Relearn(steps=1, variant="non-xattn", whiten=1e-3)(victim(tmp_path)))
