"""Images of a measurement: sampled once, in batches that an interruption does not move, and never all in memory."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

import pytest
import tiny
import torch
from raising import raises_error
from torch import Tensor

from expunge.evaluation.judges import Judgement, judge_chunks
from expunge.evaluation.protocol import Protocol, plan
from expunge.evaluation.rendering import ImageFiles, locate_images, render
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.storage.lock import all_taken, taken
from expunge.training.renderer import Renderer
from expunge.training.session import Session

SHOTS = plan(tiny.concept(), Protocol(prompts=2, target_seeds=2))[:12]
ONE_STEP = Sampler(1, 1.0)


def session(folder: Path, batch: int | None = None) -> Session:
    return Session(tiny.model(), Store(folder), Silent(), render_batch=batch)


@dataclass
class Shelf:
    """Keeps numbers."""

    count: int
    found: dict[int, int] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        return [f"number {i}" for i in range(self.count)]

    def has(self, index: int) -> bool:
        return index in self.found

    def put(self, index: int, image: int) -> None:
        assert index not in self.found
        self.found[index] = image


class Interrupted(Exception):
    """What a killed process would not say."""


def sampled(shelf: Shelf, folder: Path, batch: int, fails: Callable[[list[int]], bool] = lambda part: False) -> list[list[int]]:
    """The batches in which the numbers that a shelf lacks are made."""
    made = []

    def make(part: list[int]) -> list[int]:
        if fails(part):
            raise Interrupted
        made.append(part)
        return [i * i for i in part]

    with suppress(Interrupted):
        Renderer(session(folder), batch).keep(shelf, make, "numbers")
    return made


def test_an_interruption_does_not_move_the_batches(tmp_path: Path):
    straight = sampled(Shelf(10), tmp_path, 4)
    assert straight == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shelf = Shelf(10)
    before = sampled(shelf, tmp_path, 4, lambda part: 4 in part)
    shelf.found.pop(0)  # as if it had been killed while it wrote the first batch
    after = sampled(shelf, tmp_path, 4)
    assert (before, after) == ([[0, 1, 2, 3]], [[0], [4, 5, 6, 7], [8, 9]])
    assert shelf.found == {i: i * i for i in range(10)}


def test_where_most_are_kept_neighbours_share_a_batch(tmp_path: Path):
    shelf = Shelf(16, {i: i * i for i in range(16) if i % 4 and i < 12})
    assert sampled(shelf, tmp_path, 4) == [[0, 4, 8], [12, 13, 14, 15]]


def test_a_batch_that_another_process_samples_is_left_to_it(tmp_path: Path):
    """It is waited for at the end, and found."""
    shelf, made = Shelf(8), []
    claim = tmp_path / "claims" / "a"
    with taken(claim) as is_mine:
        assert is_mine
        mine = Renderer(session(tmp_path), 4)
        others = next(iter(mine.batches(shelf)))

        def make(part: list[int]) -> list[int]:
            made.append(part)
            return part

        class Busy:
            """The other's claim on the first batch, until all others are done."""

            def __init__(self) -> None:
                self.tried = 0

            def __call__(self, files: list[Path], wait: bool = False) -> object:
                self.tried += 1
                if self.tried == 1:
                    return all_taken([claim])  # which is not to be had
                if wait:
                    for i in others:
                        shelf.put(i, i)
                return all_taken(files, wait)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("expunge.training.renderer.all_taken", Busy())
            mine.keep(shelf, make, "numbers")
    assert made == [[4, 5, 6, 7]]
    assert sorted(shelf.found) == list(range(8))
    assert {file.name for file in claim.parent.iterdir()} <= {"a", "a.lock"}


@pytest.mark.parametrize("kept", [[], [1, 4, 6]])
def test_of_a_batch_that_is_half_written_another_process_samples_nothing(tmp_path: Path, kept: list[int]):
    """It lists fewer images as missing than the first process did, and may list them in other batches."""
    made, is_through = [], Event()

    def make(part: list[int]) -> list[int]:
        made.extend(part)
        return part

    def claim(files: list[Path], wait: bool = False) -> object:
        if wait:
            is_through.set()
        return all_taken(files, wait)

    def beside() -> None:
        Renderer(session(tmp_path), 4).keep(shelf, make, "numbers")
        is_through.set()

    class Slow(Shelf):
        def put(self, index: int, image: int) -> None:
            super().put(index, image)
            if not other.ident:
                other.start()
                assert is_through.wait(60)  # with all that is not claimed

    shelf = Slow(8, {i: i for i in kept})
    other = Thread(target=beside)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.training.renderer.all_taken", claim)
        Renderer(session(tmp_path), 4).keep(shelf, make, "numbers")
        other.join()
    assert sorted(made) == [i for i in range(8) if i not in kept]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, error: Exception):
    shelf, made = Shelf(7), []

    def make(part: list[int]) -> list[int]:
        if len(part) > 2:
            raise error
        made.append(part)
        return part

    Renderer(session(tmp_path), 7).keep(shelf, make, "numbers")
    assert made == [[0], [1, 2], [3, 4], [5, 6]]
    with raises_error("out-of-memory", 1):
        Renderer(session(tmp_path), 7).keep(Shelf(2), lambda part: (_ for _ in ()).throw(error), "numbers")


def test_another_error_is_no_lack_of_memory(tmp_path: Path):
    with pytest.raises(RuntimeError, match="shapes"):
        Renderer(session(tmp_path), 7).keep(Shelf(2), lambda part: (_ for _ in ()).throw(RuntimeError("shapes")), "numbers")


def test_an_image_is_cached_for_the_batch_it_is_sampled_in(tmp_path: Path):
    """Its last digits depend on it."""
    usual, fixed = session(tmp_path), session(tmp_path, 7)
    assert locate_images(usual, SHOTS, ONE_STEP, "w") == locate_images(replace(usual, render_batch=40), SHOTS, ONE_STEP, "w")
    assert not set(locate_images(usual, SHOTS, ONE_STEP, "w")) & set(locate_images(fixed, SHOTS, ONE_STEP, "w"))


def test_images_are_those_of_the_model(tmp_path: Path):
    made = session(tmp_path, 3)
    images = render(made, SHOTS, ONE_STEP, "w", "images")
    [first, *_] = images.chunks(3)
    expected = made.model.sample([s.prompt.prompt for s in SHOTS[:3]], [s.noise_seed for s in SHOTS[:3]], ONE_STEP)
    assert torch.equal(first, expected)
    assert sum(len(chunk) for chunk in images.chunks(5)) == len(SHOTS)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While images are sampled and judged, those of two batches are alive at most."""
    made, alive, most = session(tmp_path, 2), weakref.WeakSet[Tensor](), []
    sample = made.model.sample

    def watched(*given: object) -> Tensor:
        images = sample(*given)
        alive.add(images)
        most.append(sum(map(len, alive)))
        return images

    monkeypatch.setattr(made.model, "sample", watched)
    images = render(made, SHOTS, ONE_STEP, "w", "images")
    assert len(most) == len(SHOTS) // 2
    assert max(most) <= 4

    def judge(chunk: Tensor, concept: object) -> Judgement:
        alive.add(chunk)
        most.append(sum(map(len, alive)))
        return Judgement({"style": ("neon",) * len(chunk)})

    seen = judge_chunks(judge, images.chunks(2), tiny.concept()).seen["style"]
    assert len(seen) == len(SHOTS)
    assert max(most) <= 4


def test_a_damaged_image_is_an_error_and_is_sampled_again(tmp_path: Path):
    made = session(tmp_path)
    images = render(made, SHOTS[:2], ONE_STEP, "w", "images")
    before = images.read(0)
    content = images.files[0].read_bytes()
    images.files[0].write_bytes(content[:40] + bytes(20) + content[60:])  # whole at both ends
    with raises_error("lost-image", str(images.files[0])):
        images.read(0)
    again = render(made, SHOTS[:2], ONE_STEP, "w", "images")
    assert torch.equal(again.read(0), before)
    assert not ImageFiles([tmp_path / "none.png"]).has(0)
