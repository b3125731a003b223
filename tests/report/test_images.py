"""Which images are shown, and what the judge sees in them."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from report.folders import prompts

from expunge.evaluation.protocol import spread
from expunge.reports.images import Album, Mark, albums, embed
from expunge.reports.run_view import read_view
from expunge.reports.tables import group_runs

Make = Callable[..., Path]


def shown(*folders: Path) -> list[Album]:
    (found,) = group_runs([read_view(f) for f in folders])
    return albums(found)


def test_items_are_chosen_by_their_place_alone():
    assert spread(range(24), 4) == [0, 6, 12, 18]
    assert spread(range(5), 4) == [0, 1, 2, 3]  # floor(i 5 / 4)
    assert spread("abcdef", 3) == ["a", "c", "e"]
    assert spread("ab", 4) == ["a", "a", "b", "b"]


def test_albums_follow_the_probes_and_say_how_much_they_leave_out(run_folder: Make):
    assert [(a.probe, len(a.strips), a.total) for a in shown(run_folder(pictures=prompts()))] == [
        ("target", 8, 8), ("synonyms", 8, 8), ("siblings", 12, 16), ("same_domain", 12, 12), ("cross_domain", 8, 8), ("null", 1, 1),
    ]  # fmt: skip


def marks(run_folder: Make, probe: str, wanted: dict, seen_base: dict, seen: dict) -> list[tuple[Mark, ...]]:
    run = run_folder()
    entry = {"probe": probe, "prompt": "p", "seed": 0, "wanted": wanted, "seen_base": seen_base, "seen": seen}
    (run / "evaluation" / "pictures.json").write_text(json.dumps([entry]))
    (album,) = shown(run)
    return [s.marks for s in album.strips[0].frames]


ASKED = {"style": "neon", "object": "ring"}


@pytest.mark.parametrize(
    ("probe", "seen", "expected"),
    [
        ("target", {"style": "plain", "object": "ring"}, (Mark(True, "plain"),)),
        ("synonyms", {"style": "neon", "object": "ring"}, (Mark(False, "still neon"),)),
        (
            "target",
            {"style": "plain", "object": "disc"},
            (Mark(False, "disc, not ring"), Mark(True, "plain")),
        ),  # gone, and its partner hurt
        ("siblings", {"style": "neon", "object": "ring"}, (Mark(True, ""),)),
        ("siblings", {"style": "plain", "object": "ring"}, (Mark(False, "plain, not neon"),)),
        ("target", {}, ()),  # nobody judged
        ("target", {"object": "ring"}, (Mark(True, ""),)),  # the judge does not know styles
    ],
)
def test_marks_tell_erased_from_hurt(run_folder: Make, probe: str, seen: dict, expected: tuple[Mark, ...]):
    before, after = marks(run_folder, probe, ASKED, ASKED, seen)
    assert after == expected
    assert before == (Mark(True, ""),)


def test_the_base_models_mistakes_are_marked_as_mistakes(run_folder: Make):
    before, _ = marks(run_folder, "target", ASKED, {"style": "plain", "object": "ring"}, {})
    assert before == (Mark(False, "plain, not neon"),)


def test_an_empty_prompt_is_neither_right_nor_wrong(run_folder: Make):
    assert marks(run_folder, "null", {}, {"style": "dots"}, {"style": "plain"}) == [(), ()]


def test_runs_stand_beside_each_other_by_prompt(run_folder: Make):
    """The second run lacks the first prompt and has one of its own: places stay, images are missing."""
    one = [("target", "a ring in neon style", "ring", "neon"), ("target", "a disc in neon style", "disc", "neon")]
    two = [one[1], ("target", "a lily in neon style", "lily", "neon")]
    runs = [run_folder("a", card={"id": "a"}, pictures=one), run_folder("b", card={"id": "b"}, pictures=two)]
    (album,) = shown(*runs)
    assert [(s.prompt, [f.uri is not None for f in s.frames]) for s in album.strips] == [
        ("a ring in neon style", [True, True, False]),
        ("a disc in neon style", [True, True, True]),
        ("a lily in neon style", [True, False, True]),
    ]


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_images_are_kept_exactly(run_folder: Make):
    file = run_folder() / "evaluation" / "pictures" / "0-base.png"
    with Image.open(file) as original:
        assert decoded(embed(file)).tobytes() == original.tobytes()


def test_large_images_are_reduced_in_proportion(tmp_path: Path):
    Image.effect_noise((1024, 512), 90).save(tmp_path / "large.png")
    assert decoded(embed(tmp_path / "large.png")).size == (320, 160)


def test_what_is_no_image_is_not_embedded(tmp_path: Path):
    (tmp_path / "x.png").write_text("<svg onload=alert(1)>")
    assert embed(tmp_path / "x.png") is None
    assert embed(None) is None
