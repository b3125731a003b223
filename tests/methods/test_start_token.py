"""Training without the gradient of how the start token is read, as Concept Ablation's and f-DMU's released codes train."""

import pytest
import tiny
import torch
from families import shared
from raising import raises_error
from torch import Tensor, nn

from expunge.methods.base import Training
from expunge.methods.concept_ablation import CA
from expunge.methods.f_divergence import FDMU
from expunge.methods.presets import read_preset
from expunge.models.base import DiffusionModel
from expunge.models.scopes import SCOPES
from expunge.models.start_token import fixed_start, start_readers
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import carry_out
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

READERS = SCOPES["xattn-kv"]


def loss(model: DiffusionModel) -> Tensor:
    x_t, t = model.noise([1, 2]), model.path.times(torch.tensor([0.3, 0.7]))
    return model.run(x_t, t, model.encode(["neon style", "a ring in dots style"])).square().mean()


def test_the_gradient_is_that_of_all_tokens_but_the_first():
    """The released code detaches the start token's keys and values. The gradient of a matrix is the sum over the tokens of dL/dk c^T, so
    the first token's part is missing, and nothing else changes."""
    model = tiny.model()
    weights = model.scope(READERS)
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def record(name: str):
        def hook(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
            out.register_hook(lambda slope: seen.__setitem__(name, (slope, inputs[0])))

        return hook

    hooks = [model.network.get_submodule(n.removesuffix(".weight")).register_forward_hook(record(n)) for n in weights]
    whole = dict(zip(weights, torch.autograd.grad(loss(model), list(weights.values())), strict=True))
    for hook in hooks:
        hook.remove()
    with fixed_start(model):
        found = dict(zip(weights, torch.autograd.grad(loss(model), list(weights.values())), strict=True))
    assert loss(model).item() == pytest.approx(loss(tiny.model()).item())
    for name, (slope, states) in seen.items():
        parts = torch.einsum("bto,bti->toi", slope, states)
        torch.testing.assert_close(parts.sum(0), whole[name], rtol=1e-3, atol=1e-8)
        torch.testing.assert_close(parts[1:].sum(0), found[name], rtol=1e-3, atol=1e-8)
    assert seen.keys() == weights.keys()
    assert any((found[name] - whole[name]).norm() > 0.05 * whole[name].norm() for name in whole)


@pytest.mark.parametrize("method", [CA, FDMU])
@pytest.mark.parametrize("variant", ["xattn-kv", "xattn-lora"])
def test_training_leaves_the_start_token_out(method, variant, tmp_path):
    """In each step, with low-rank factors too, and after it the network is as it was."""
    norms = {}
    for start_token in ("trained", "fixed"):
        made = method(start_token=start_token, variant=variant)
        session = tiny.session(cache=Store.default())
        settings = Training(**tiny.TRAINING | {"steps": 1})
        batches = gather(session, tiny.concept(anchor="dots"), made.needs, settings, 0)
        trainer = Trainer(session, made, settings, batches, TrainState(session.model, made.scope))
        norms[start_token] = next(iter(trainer.fit())).grad_norm
        assert not any(layer._forward_hooks for layer in start_readers(session.model))
    assert 0 < norms["fixed"] != pytest.approx(norms["trained"], rel=1e-3)


def test_the_presets_leave_it_out():
    assert [read_preset(f"{name}-published")["method"]["start_token"] for name in ("ca", "f-dmu")] == ["fixed", "fixed"]


def test_a_text_encoder_without_a_start_token_is_refused_before_anything_is_made(tmp_path):
    """Flux reads T5, whose first token is the first word."""
    model = shared("flux-1-dev")
    plan = make_plan(model, tiny.concept(anchor="dots"), "ca", start_token="fixed", training=tiny.TRAINING | {"whiten": 0.0})
    with raises_error("no-start-token", model.name, "--start-token trained"):
        carry_out(plan, tiny.session(model, Store(tmp_path / "store")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
