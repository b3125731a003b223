"""Whitened steps in every layer: against explicit rows, inverses and projections."""

import pytest
import tiny
import torch
from torch import nn

from expunge.methods.base import Training
from expunge.models.kept_tokenizer import KeptTokenizer, keep_tokenizer
from expunge.training import layerwise
from expunge.training.anything import OtherNames, anything, other_names, tokenizer_words
from expunge.training.batches import gather
from expunge.training.layerwise import layer_whitening, reads_rows, rows, second_moments
from expunge.training.preconditioner import Whitening, turned, whitener_of

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def stepped(layer: nn.Module, name: str, whitening: Whitening, rate: float) -> torch.Tensor:
    """How far one step of gradient descent in the whitened coordinates moves the layer's weight."""
    trained, before = {name: layer.weight}, layer.weight.detach().clone()
    whitening.change_gradients(trained)
    with whitening.stepping(trained):
        torch.optim.SGD([layer.weight], lr=rate).step()
    return layer.weight.detach() - before


def test_a_step_is_the_gradient_times_the_inverse_of_the_inputs_covariance():
    """K-FAC's A side, with its inverse by a solver that knows no eigenvectors."""
    layer, a, wrong = nn.Linear(5, 3, bias=False).double(), normal(40, 5) * torch.tensor([5.0, 2, 1, 0.3, 0.1]), normal(7, 5)
    second = a.T @ a / len(a)
    layer(wrong).square().mean().backward()
    gradient = layer.weight.grad.clone()
    moved = stepped(layer, "weight", Whitening({"weight": whitener_of(second, 0.0)}), 0.1)
    natural = torch.linalg.solve(second, gradient.T).T
    # tr(U A U) = tr(A) asks for s^2 = tr(A) / width.
    torch.testing.assert_close(moved, -0.1 * second.trace() / 5 * natural)


def test_towards_no_ridge_a_step_is_projected_off_what_must_survive():
    """PGU's limit: where the retained rows do not reach, steps go as the gradient does, and elsewhere nowhere."""
    layer, retained = nn.Linear(6, 4, bias=False).double(), normal(30, 2) @ normal(2, 6)
    layer(normal(9, 6)).square().mean().backward()
    gradient = layer.weight.grad.clone()
    moved = stepped(layer, "weight", Whitening({"weight": whitener_of(retained.T @ retained / 30, 1e-9)}), 1.0)
    basis = torch.linalg.svd(retained, full_matrices=False).Vh[:2]
    projected = gradient - gradient @ basis.T @ basis
    assert (moved @ retained.T).norm() / moved.norm() / retained.norm() < 1e-6
    torch.testing.assert_close(moved / moved.norm(), -projected / projected.norm(), rtol=1e-6, atol=1e-6)
    assert (gradient @ retained.T).norm() / gradient.norm() / retained.norm() > 0.1  # Adam's own step would reach it


def test_a_convolutions_rows_are_the_channels_of_each_pixel():
    layer, x = nn.Conv2d(2, 3, 3).double(), normal(2, 2, 4, 5)
    assert torch.equal(rows(layer, x), torch.stack([x[image, :, y, z] for image in range(2) for y in range(4) for z in range(5)]))


def test_a_convolution_is_whitened_at_each_place_of_its_kernel():
    layer, u = nn.Conv2d(2, 3, 3).double(), normal(2, 2)
    whole = torch.kron(u, torch.eye(9, dtype=torch.float64))  # the same for each place, and none mixed with another
    torch.testing.assert_close(turned(layer.weight, u).flatten(1), layer.weight.flatten(1) @ whole)
    x = normal(1, 2, 6, 6)  # a kernel in whitened coordinates reads whitened pixels
    white = (x.movedim(1, -1) @ u.T).movedim(-1, 1)
    torch.testing.assert_close(nn.functional.conv2d(x, turned(layer.weight, u)), nn.functional.conv2d(white, layer.weight))


def test_layers_that_multiply_no_rows_step_on_themselves():
    known = [nn.Linear(2, 2), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding="same"), nn.Conv2d(2, 2, 3, padding_mode="reflect")]
    others = [nn.Conv2d(2, 2, 1, groups=2), nn.GroupNorm(1, 2), nn.Embedding(2, 2)]
    assert all(map(reads_rows, known))
    assert not any(map(reads_rows, others))


@pytest.fixture(scope="module")
def made():
    training = Training(**tiny.TRAINING, retain_pictures=8)
    return gather(tiny.session(), tiny.concept(), frozenset({"anything"}), training, 0)


def test_each_layers_covariance_is_that_of_what_it_reads(made, monkeypatch):
    monkeypatch.setattr(layerwise, "AT_ONCE", 3)
    points, net = made.banks["anything"].points, made.model.network
    name = next(n for n, m in net.named_modules() if n.endswith("attn2.to_k"))
    seen = []
    hook = net.get_submodule(name).register_forward_hook(lambda layer, given, out: seen.append(given[0].reshape(-1, 96)))
    found = second_moments(made.model, points, [name, "conv_norm_out"])
    hook.remove()
    a = torch.cat(seen).double()
    assert found.keys() == {name}
    assert len(a) == len(points) * points.cond.states.shape[1]
    torch.testing.assert_close(found[name].double(), a.T @ a / len(a), rtol=1e-4, atol=1e-5)


def test_every_linear_layer_and_convolution_that_is_trained_is_whitened(made):
    net = made.model.network
    trained = dict(net.named_parameters())
    found = layer_whitening(made.model, made.banks["anything"].points, trained, 1e-3).u
    assert found.keys() == {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert layer_whitening(made.model, made.banks["anything"].points, ["conv_in.weight"], 1e-3).u.keys() == {"conv_in.weight"}


def test_few_points_are_read_of_many(made, monkeypatch):
    monkeypatch.setattr(layerwise, "CALLED", 5)
    points, count = made.banks["anything"].points, []
    hook = made.model.network.register_forward_pre_hook(lambda net, given: count.append(len(given[0])))
    second_moments(made.model, points, ["conv_in"])
    hook.remove()
    assert sum(count) == layerwise.calls(len(points)) == 4  # every fourth of 16


def test_random_prompts_hold_no_given_name(made):
    concept = tiny.concept("neon", synonyms=("glow",))
    sentences, others = [p.prompt for p in concept.forget()] * 20, OtherNames.of(made.model, concept, 0)
    prompts = anything(made.model, concept, others, sentences, 0)
    words = {word for prompt in prompts for word in prompt.split()}
    assert prompts == anything(made.model, concept, others, sentences, 0) != anything(made.model, concept, others, sentences, 1)
    assert not words & {"neon", "glow"}
    assert {"ring", "hoop", "sketch"} <= words  # no list names them
    assert prompts.count("") == -(-len(sentences) // 16)


def test_a_kept_tokenizer_has_the_same_words(made, tmp_path):
    tokenizer, concept = made.model.readings[0].tokenizer, tiny.concept("neon")
    values = keep_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    kept = KeptTokenizer(tmp_path / "tokenizer.json", values, lambda: pytest.fail("the real tokenizer is read"))
    ids = [[i] for i in range(len(tokenizer))]
    assert len(kept) == len(tokenizer)
    assert kept.batch_decode(ids) == tokenizer.batch_decode(ids)
    texts = ["a ring in neon style", "dots"]
    assert kept(texts, add_special_tokens=False).input_ids == tokenizer(texts, add_special_tokens=False).input_ids
    assert tokenizer_words(kept, {"neon"}) == other_names(made.model, concept)
