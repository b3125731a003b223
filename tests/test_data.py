"""Batches are functions of (seed, step); what a need brings belongs to the same prompt, row by row."""

import tiny
import torch

from expunge import schedule
from expunge.cache import Store
from expunge.data import gather, picks, trajectory_bank
from expunge.objective import Training
from expunge.weights import Memo

TRAINING = Training(**tiny.TRAINING)


def batches(tmp_path, needs, target="neon", seed=0, **settings):
    return gather(tiny.denoiser(), tiny.concept(target, **settings), frozenset(needs), TRAINING, seed, Store(tmp_path), Memo())


def test_an_epoch_visits_every_point_once_in_an_order_of_its_own():
    seen = [i for step in range(4) for i in picks(0, step, 12, 6)]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]
    assert picks(0, 3, 12, 6) == picks(0, 3, 12, 6) != picks(1, 3, 12, 6)


def test_a_batch_larger_than_the_bank_goes_round():
    assert sorted(picks(0, 0, 4, 8)) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    one, again = batches(tmp_path / "a", {"forget", "marginal"}), batches(tmp_path / "b", {"forget", "marginal"})
    for step in (5, 0):
        x, y = one(step).forget, again(step).forget
        assert torch.equal(x.x_t, y.x_t)
        assert x.keys == y.keys
        assert one(step).marginal.keys == again(step).marginal.keys
    assert batches(tmp_path / "c", {"forget"}, seed=1)(0).forget.keys != one(0).forget.keys


def test_rows_belong_together(tmp_path):
    """Context, marginal and anchor are those of the very prompt in the same row."""
    made = batches(tmp_path, {"forget", "context", "marginal", "anchor"}, anchor="sketch")
    for step in range(4):
        batch = made(step)
        for prompt, context, marginal, anchor in zip(
            batch.forget.cond.keys, batch.context.keys, batch.marginal.keys, batch.anchor.keys, strict=True
        ):
            assert "neon" in prompt
            partner = prompt.removesuffix("neon style").removesuffix(" in ")
            assert context == partner
            assert marginal.startswith(partner)
            assert "neon" not in marginal
            assert marginal.endswith("style")
            assert anchor == prompt.replace("neon", "sketch")


def test_noised_points_are_on_the_path(tmp_path):
    made = batches(tmp_path, {"forget"})
    x = made.bank.points
    again = schedule.add_noise(_clean(made), x.noise, x.t, made.denoiser.alphas_cumprod)
    torch.testing.assert_close(again, x.x_t, rtol=1e-4, atol=1e-4)
    assert sorted((x.t * 16 // 1000).tolist()) == list(range(16))  # one in each of 16 equal slices of the path


def _clean(made):
    return schedule.x0_from_eps(made.bank.points.noise, made.bank.points.x_t, made.bank.points.t, made.denoiser.alphas_cumprod)


def test_a_trajectory_pairs_each_place_with_its_own_time(tmp_path):
    """A released trainer pairs clean latents with t near 990 in 2 % of its steps."""
    denoiser = tiny.denoiser()
    memo = Memo()
    bank = trajectory_bank(denoiser, tiny.concept(), TRAINING, 0, Store(tmp_path), lambda items, _: iter(items), memo)
    steps = denoiser.default_sampler.steps
    assert len(bank.points) == steps  # one trajectory covers the 16 points asked for
    t = bank.points.t.tolist()
    assert t == sorted(t, reverse=True)
    x = bank.points
    with torch.no_grad():
        eps = denoiser(x)
    torch.testing.assert_close(torch.stack([memo.rows[k, p] for k, p in zip(x.keys, x.cond.keys, strict=True)]), eps, rtol=1e-4, atol=1e-5)


def test_pictures_are_made_once(tmp_path):
    store = Store(tmp_path)
    denoiser = tiny.denoiser()
    calls = []
    denoiser.net.register_forward_pre_hook(lambda *_: calls.append(1))
    for _ in range(2):
        gather(denoiser, tiny.concept(), frozenset({"forget"}), TRAINING, 0, store, Memo())
        calls.append("done")
    assert calls.index("done") > 0
    assert calls[calls.index("done") + 1 :] == ["done"]
