"""What every scope promises."""

import pytest
import tiny
import torch
from raising import raises_error

from expunge.diffusion.types import Cond, Point
from expunge.errors import ExpungeError
from expunge.models.delta import load_delta, save_delta, swapped
from expunge.models.scopes import SCOPES, Scope
from expunge.runs.run import Run
from expunge.training.networks import Student
from expunge.training.state import TrainState


@pytest.mark.parametrize("name", SCOPES)
def test_saved_and_loaded_it_gives_the_same_output(name, tmp_path):
    model = tiny.model()
    state = TrainState(model, SCOPES[name])
    with torch.no_grad():
        for p in state.trained.values():
            p += 0.01 * torch.randn_like(p)
    point = Point(torch.randn(2, 4, 8, 8), torch.tensor([3, 500]), Cond(torch.randn(2, 12, 96), ("a", "b")), ("0", "1"))
    with torch.no_grad():
        changed = Student(model, state)(point)
    save_delta(tmp_path / "delta.safetensors", state.delta(), "base")
    state.release()
    with torch.no_grad():
        before = model.predict(point)
        with swapped(model.network, load_delta(tmp_path / "delta.safetensors", "base")):
            # In training a low rank is added to what a layer returns, in the result to its weight: the same up to rounding.
            torch.testing.assert_close(model.predict(point), changed, rtol=0, atol=1e-5 if SCOPES[name].rank else 0)
        torch.testing.assert_close(model.predict(point), before, rtol=0, atol=0)
    assert not torch.equal(before, changed)


def test_scopes_nest_and_complement():
    model = tiny.model()
    net, names = model.network, {n: set(model.scope(s)) for n, s in SCOPES.items()}
    assert names["xattn-kv"] < names["xattn"] < names["full"]
    assert names["xattn-lora"] < names["xattn"]
    assert all(net.get_parameter(n).ndim == 2 for n in names["xattn-lora"])
    assert names["xattn"] | names["non-xattn"] == names["full"]
    assert not names["xattn"] & names["non-xattn"]


def test_a_scope_that_selects_nothing_is_an_error():
    """A released command of ESD selects no parameter and hands the optimizer an empty list."""
    for scope, rule in ((Scope("mine", r"\.attn7\."), "empty-scope"), (Scope("attn7"), "unknown-scope")):
        with pytest.raises(ExpungeError) as caught:
            tiny.model().scope(scope)
        assert (caught.value.rule, caught.value.value) == (rule, scope.name)


def test_a_scope_of_ones_own_is_a_pattern():
    model = tiny.model()
    assert set(model.scope(Scope("mine", r"\.attn2\.to_[kv]\."))) == set(model.scope(SCOPES["xattn-kv"]))


def test_a_delta_for_another_model_is_refused(tmp_path):
    save_delta(tmp_path / "delta.safetensors", {"a": torch.zeros(1)}, "one")
    with raises_error("other-base-model", "other"):
        load_delta(tmp_path / "delta.safetensors", "other")


def test_a_finished_run_whose_delta_is_cut_short_says_how_to_begin_again(tmp_path):
    """Deleting the file alone would help nobody: the card says that the run is done, and it is not done again."""
    (tmp_path / "card.json").write_text('{"status": "done"}')
    (tmp_path / "delta.safetensors").write_bytes(b"short")
    with raises_error("unreadable-tensors", str(tmp_path / "delta.safetensors"), f"deleting the folder {tmp_path} and running again."):
        Run(tmp_path).delta()


@pytest.mark.parametrize("cut", [0, 7, 60])
def test_a_truncated_delta_is_refused(tmp_path, cut):
    file = tmp_path / "delta.safetensors"
    save_delta(file, {"a": torch.zeros(100)}, "one")
    file.write_bytes(file.read_bytes()[:cut])
    with raises_error("unreadable-tensors", str(file)):
        load_delta(file)
