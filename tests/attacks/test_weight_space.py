"""Coarser, fewer and noisier weights on numbers small enough to do by hand, and on the whole of a network."""

from itertools import pairwise

import pytest
import torch
from attacks.victims import victim
from raising import raises_error

from expunge import config
from expunge.attacks.weight_perturbation import Noise, Prune, Quantise, round_to_grid


def test_each_output_channel_is_rounded_on_a_grid_of_its_own():
    """3 bits: the grid is -3 ... 3 times the row's largest over 3."""
    w = torch.tensor([[3.0, 1.4, -0.6, -3.0], [0.03, 0.014, -0.006, 0.0]])
    torch.testing.assert_close(round_to_grid(w, 3), torch.tensor([[3.0, 1.0, -1.0, -3.0], [0.03, 0.01, -0.01, 0.0]]))


def test_a_channel_of_zeros_stays_zero():
    assert torch.equal(round_to_grid(torch.zeros(2, 3, 1, 1), 4), torch.zeros(2, 3, 1, 1))


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_no_weight_moves_by_more_than_half_a_step(bits):
    w = torch.randn(5, 7, 3, 3)
    step = w.abs().amax((1, 2, 3)) / (2 ** (bits - 1) - 1)
    after = round_to_grid(w, bits)
    assert ((after - w).abs().amax((1, 2, 3)) <= step / 2 + 1e-6).all()
    assert all(len((row / s).round().unique()) <= 2**bits - 1 for row, s in zip(after, step, strict=True))


def test_the_whole_attacked_network_is_rounded_and_not_only_what_unlearning_changed(tmp_path):
    attacked = victim(tmp_path)
    net = dict(attacked.model.network.named_parameters())
    _, eight, four, three = Quantise()(attacked)
    assert (eight.strength, four.strength, three.strength) == (8, 12, 13)
    for name, p in net.items():
        if p.ndim > 1:  # the victim's value where it has one, the untouched model's elsewhere
            assert torch.equal(four.weights[name], round_to_grid(attacked.delta.get(name, p.detach()), 4))
        elif name in attacked.delta:
            assert torch.equal(four.weights[name], attacked.delta[name])
        else:
            assert name not in four.weights
    assert {"conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"} <= four.weights.keys()


def test_a_change_of_less_than_half_a_step_is_rounded_away(tmp_path):
    """What makes it an attack: at few bits the victim and the untouched model become one."""
    untouched = victim(tmp_path, delta={})
    before = next(p.detach() for n, p in untouched.model.network.named_parameters() if ".attn2.to_k" in n)
    row = before[0]
    at = int(row.abs().argmin())  # not the largest, which the grid hangs on
    step = row.abs().max() / 7
    after = before.clone()
    after[0, at] += 0.2 * step * (1 if row[at] < 0 else -1)
    assert not torch.equal(round_to_grid(after, 15), round_to_grid(before, 15))
    assert torch.equal(round_to_grid(after, 4), round_to_grid(before, 4))


def test_pruning_takes_the_smallest_of_the_whole_network(tmp_path):
    """One threshold for all: a share of each tensor would take large weights of some and leave small ones of others."""
    attacked = victim(tmp_path)
    matrices = {n: attacked.delta.get(n, p.detach()) for n, p in attacked.model.network.named_parameters() if p.ndim > 1}
    everything = torch.cat([w.flatten() for w in matrices.values()])
    gone = []
    for reading in list(Prune()(attacked))[1:]:
        left = torch.cat([reading.weights[n].flatten() for n in matrices])
        zero = left == 0
        assert zero.float().mean().item() == pytest.approx(reading.strength, abs=1e-4)
        assert torch.equal(left[~zero], everything[~zero])
        assert everything[zero].abs().max() < everything[~zero].abs().min()
        gone.append(zero)
    assert all((small <= large).all() for small, large in pairwise(gone))
    shares = {n: (reading.weights[n] == 0).float().mean().item() for n in matrices}
    assert max(shares.values()) > 2 * min(shares.values())


def test_pruning_by_hand():
    matrices = {"a": torch.tensor([[3.0, -0.1]]), "b": torch.tensor([[0.2], [-0.3]])}
    half = Prune().perturb(matrices, 0.5, 0)
    assert torch.equal(half["a"], torch.tensor([[3.0, 0.0]]))
    assert torch.equal(half["b"], torch.tensor([[0.0], [-0.3]]))


def test_noise_is_in_proportion_to_each_tensor_and_keeps_its_direction():
    matrices = {"large": 10 * torch.randn(80, 80), "small": 0.1 * torch.randn(80, 80)}
    attack = Noise(levels=(0.1, 0.2))
    one, two = (attack.perturb(matrices, s, 0) for s in (0.1, 0.2))
    for name, w in matrices.items():
        added = one[name] - w
        assert added.square().mean().sqrt() / w.square().mean().sqrt() == pytest.approx(0.1, rel=0.05)
        torch.testing.assert_close(two[name] - w, 2 * added, rtol=1e-3, atol=1e-4 * float(w.abs().max()))
    assert not torch.equal((one["large"] - matrices["large"]).sign(), (one["small"] - matrices["small"]).sign())
    assert not torch.equal(attack.perturb(matrices, 0.1, 1)["large"], one["large"])


@pytest.mark.parametrize(("attack", "given"), [(Quantise, {"bits": [4, 8]}), (Prune, {"shares": [0.2, 0.2]}), (Noise, {"levels": []})])
def test_settings_out_of_order_are_refused(attack, given):
    with raises_error("unordered-strengths", hint="increasing order"):
        config.build(attack, given, "attack")


@pytest.mark.parametrize(("attack", "given"), [(Quantise, {"bits": [1]}), (Prune, {"shares": [1.0]}), (Noise, {"levels": [0]})])
def test_settings_out_of_bounds_are_refused(attack, given):
    with raises_error("invalid-setting"):
        config.build(attack, given, "attack")
