"""Errors in the measure of the model's own training, and that every method which compares predictions uses it."""

import pytest
import torch

from expunge.attacks._training import Denoise
from expunge.diffusion.batch import Batch
from expunge.diffusion.losses import denoising_error
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import Discrete, Flow, NoisePath
from expunge.diffusion.types import Cond, Noised, Repeated
from expunge.methods.concept_ablation import CA
from expunge.methods.dimum import DiMUM
from expunge.methods.erase_diff import EraseDiff
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.mim_mu import MiMMU
from expunge.methods.mim_pid import MiMPID
from expunge.methods.pure import PURE
from expunge.methods.random_label import RandomLabel
from expunge.methods.selective_amnesia import SA

COND = Cond(torch.zeros(2, 2, 4), ("ring", "ring"))
X = Noised(torch.ones(2, 1, 2, 2), torch.tensor([5, 7]), COND, ("a", "b"), torch.tensor([0.0, 3.0])[:, None, None, None].expand(2, 1, 2, 2))
PATHS = [Discrete(), Discrete(predicts="v_prediction"), Flow()]


def models(path: NoisePath) -> Models:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    notes = {"gamma": torch.tensor(1.0), "fisher.w": torch.tensor(1.0), "kappa": torch.tensor(1.0), "scale": torch.tensor(1.0)}
    return Models(
        lambda p: weight * p.x_t,
        lambda p: 0.5 * p.x_t,
        weights={"w": weight},
        initial={"w": torch.tensor(2.0)},
        notes=notes,
        path=path,
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.predicts)
def test_the_error_is_that_of_what_the_network_predicts(path):
    """The student says 2 where the goals are 0 and 3."""
    torch.testing.assert_close(denoising_error(models(path), X), torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(denoising_error(models(path), X, X.goal + 3), torch.tensor([9.0, 9.0]))


COMPARE = [
    (Denoise("retain", "full"), 0, ["denoise"]),
    (DiMUM(), 0, ["retain", "memo"]),
    (GradientAscent(retain_weight=1.0), 0, ["forget", "retain"]),
    (SA(), 0, ["surrogate", "retain"]),
    (CA(), 0, ["prior"]),
    (MiMMU(), 0, ["forget", "lock"]),
    (MiMPID(), 0, ["forget", "lock"]),
    (RandomLabel(), 0, ["retain"]),
    (EraseDiff(), 0, ["forget", "retain"]),
    (PURE(forget_steps=1, repair_steps=1), 1, ["repair", "kl"]),
]


@pytest.mark.parametrize(("method", "step", "terms"), COMPARE, ids=lambda value: type(value).__name__)
def test_whoever_compares_predictions_does_so_in_the_models_own_measure(method, step, terms):
    """In that of the noise, a model that predicts v would hardly forget, or be held, where there is little left of the picture, and one
    that predicts a flow not at all where there is nothing left of it."""
    points, conds = ("forget", "retain", "surrogate", "anchor_pictures"), ("anchor", "marginal", "sibling", "context")
    parts = {n: X for n in points} | {n: COND for n in conds}
    given = Batch(step, COND, COND[[0]], {name: part for name, part in parts.items() if name in method.needs})
    plain, as_v, as_flow = (method(models(path), given) for path in PATHS)
    for name in terms:
        assert plain[name] != 0
        assert plain[name] == as_v[name] == as_flow[name]


def test_repeated_rows_are_those_of_the_condition_and_take_its_memory_once():
    distinct = Cond(torch.randn(2, 3, 4), ("ring", "neon"), {"pooled": torch.randn(2, 5), "mask": torch.tensor([[1, 1, 0], [1, 1, 1]])})
    at = [1, 0, 1, 1]
    plain, repeated = distinct[at], Repeated(distinct, at)
    assert repeated.keys == plain.keys
    assert len(repeated) == 4
    assert repeated.lengths == plain.lengths == [3, 2, 3, 3]
    for rows in ([2, 0], slice(1, 3), slice(None)):
        mine, other = repeated[rows], plain[rows]
        assert mine.keys == other.keys
        assert torch.equal(mine.states, other.states)
        assert {k: v.tolist() for k, v in mine.extra.items()} == {k: v.tolist() for k, v in other.extra.items()}
    assert torch.equal(repeated.tokens, plain.tokens)
    assert repeated.to(dtype=torch.float16).states.dtype == torch.float16
    assert repeated.to("cpu").distinct.states.data_ptr() == distinct.states.data_ptr()
    assert torch.equal(Cond.cat([repeated, plain]).states, torch.cat([plain.states, plain.states]))
