"""How many images are sampled at once where nobody says so."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from raising import raises_error

from expunge.models.loading import load
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.training import batch_size
from expunge.training.batch_size import batch_of, largest_fast
from expunge.training.renderer import Renderer
from expunge.training.session import Session


def test_the_search_ends_where_more_is_no_faster():
    tried = []

    def seconds(images: int) -> float:
        tried.append(images)
        return 1 + max(0, images - 16)

    assert largest_fast(seconds) == 16
    assert tried == [1, 2, 4, 8, 16, 32]
    assert largest_fast(lambda images: 1.0) == batch_size.LARGEST
    assert largest_fast(lambda images: float(images)) == 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("not enough memory")])
def test_the_search_ends_where_memory_does(error: Exception):
    def seconds(images: int) -> float:
        if images > 8:
            raise error
        return 1.0

    assert largest_fast(seconds) == 8
    assert largest_fast(lambda images: 1.0, lambda: False) == 1


def test_other_errors_are_errors():
    with pytest.raises(RuntimeError, match="shapes"):
        largest_fast(lambda images: (_ for _ in ()).throw(RuntimeError("shapes")))


def test_a_batch_is_measured_once_for_a_model_a_device_and_a_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured = []
    monkeypatch.setattr(batch_size, "seconds_of", lambda model, images: measured.append(images) or 1 + max(0, images - 4))
    store, model = Store(tmp_path), tiny.model()
    assert [batch_of(model, store, "auto", 40) for _ in range(2)] == [4, 4]
    assert measured == [1, 2, 4, 8]
    assert batch_of(tiny.model(1), store, "auto", 40) == 4  # other weights of the same architecture
    assert measured == [1, 2, 4, 8]
    model.dtype = torch.bfloat16
    assert batch_of(model, store, "auto", 40) == 4
    assert measured == [1, 2, 4, 8] * 2


def test_what_is_measured_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On an accelerator every model but those that are embedded; on a CPU none, so that equal commands give equal images."""
    monkeypatch.setattr(batch_size, "found", lambda model, cache: 64)
    store, model, canvas = Store(tmp_path), tiny.model(), load("canvas")
    assert batch_of(model, store, None, 40) == 40
    monkeypatch.setattr(type(model), "device", property(lambda self: torch.device("mps")))
    assert (batch_of(model, store, None, 40), batch_of(model, store, 7, 40), batch_of(canvas, store, None, 40)) == (64, 7, 40)
    silent = replace(Session(model, store, Silent()))
    model.network = torch.nn.Identity()  # as in a cost estimate
    assert Renderer(silent, 32).batch == 32


def test_a_real_measurement_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_size, "LARGEST", 4)
    session = Session(tiny.model(), Store(tmp_path), Silent(), render_batch="auto")
    assert Renderer(session, 40).batch in (1, 2, 4)


@pytest.mark.parametrize("batch", [0, -1, "many", 1.5])
def test_no_number_of_images_is_refused(batch: object):
    with raises_error("render-batch", batch):
        Session(tiny.model(), Store.default(), Silent(), render_batch=batch)
