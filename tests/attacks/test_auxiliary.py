"""Training data without the concept: prompts, drawings, and the checks of a user's images."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from raising import raises_error

from expunge.attacks.captions import CaptionedImage, list_images, open_images
from expunge.attacks.data import draw_without, keep_readable, list_other_prompts, refuse_naming
from expunge.canvas import draw as drawing
from expunge.canvas.prompts import OBJECT_LABELS, OBJECTS, PLAIN, STYLE_LABELS, STYLES
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.models.loading import load
from expunge.training.banks import surviving

WORDS = [*STYLES, *OBJECTS]


def painter() -> Concept:
    """A painter whose other name, known but not given, is a part of another's."""
    others = (Member("Claude Monet", ("Monet",)), Member("the school of Monet"), Member("Seurat"))
    kinds = {
        "style": Kind("style", "{target} style", "a {partner} in {target} style", "object", others),
        "object": Kind("object", "a {target}", "a {target} in {partner} style", "style", (Member("house"), Member("pond"))),
    }
    return Concept.find("Claude Monet", Vocabulary(kinds))


def folder(tmp_path: Path, captions: list[str], listed: bool = False) -> Path:
    tmp_path.mkdir(exist_ok=True)
    rows = []
    for i, caption in enumerate(captions):
        name = f"{i:02d}.png"
        Image.new("RGB", (40 + i, 30), (10 * i, 100, 200)).save(tmp_path / name)
        rows.append(json.dumps({"file_name": name, "text": caption}))
        if not listed:
            (tmp_path / name).with_suffix(".txt").write_text(caption + "\n")
    if listed:
        (tmp_path / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("word", WORDS, ids=lambda w: w.name)
def test_no_prompt_has_any_name_of_the_concept_or_leaves_its_kind_open(word):
    """The empty prompt, or a style alone where the concept is an object, may be answered with a picture of the concept."""
    concept = tiny.concept(word.name)
    prompts = list_other_prompts(concept)
    assert len(prompts) > 80
    others = {n for w in (STYLES if word in STYLES else OBJECTS) if w != word for n in w.names}
    for prompt in prompts:
        assert not set(word.names) & set(prompt.split())
        assert others & set(prompt.split())


def test_a_name_that_is_known_but_not_erased_is_found_inside_another():
    """The prompts that a method retains may hold it; those that an attack is shown may not."""
    concept = painter()
    assert concept.names == ("Claude Monet",)
    assert any("Monet" in p for p in surviving(concept))
    assert list_other_prompts(concept)
    assert not any("Monet" in p for p in list_other_prompts(concept))


def test_what_was_removed_with_it_is_not_shown_either():
    concept = replace(tiny.concept("neon"), removed=(tiny.concept("ring"),))
    assert not {"neon", "glow", "ring", "hoop"} & {w for p in list_other_prompts(concept) for w in p.split()}
    _, captions = draw_without(concept, 300, 0)
    assert not {"neon", "glow", "ring", "hoop"} & {w for c in captions for w in c.split()}


def test_a_kind_without_another_member_leaves_the_partners():
    lonely = Kind("thing", "a {target}", "a {target} in a {partner}", "place", (Member("gun", ("rifle",)),), harmless=False)
    kinds = {
        "thing": lonely,
        "place": Kind("place", "a {target}", "a {partner} in a {target}", "thing", (Member("park"), Member("gun shop"))),
    }
    assert list_other_prompts(Concept.find("gun", Vocabulary(kinds))) == ["a park"]


def test_no_prompt_left_is_said():
    lonely = Kind("thing", "a {target}", "a {target} in a {partner}", "place", (Member("gun"),), harmless=False)
    kinds = {"thing": lonely, "place": Kind("place", "a {target}", "a {partner} in a {target}", "thing", (Member("gun shop"),))}
    with raises_error("no-other-prompt", "gun", "--auxiliary"):
        list_other_prompts(Concept.find("gun", Vocabulary(kinds)))


@pytest.mark.parametrize("target", ["neon", "glow", "ring"])
def test_drawings_never_show_the_concept_and_show_all_else(target, monkeypatch):
    drawn = []

    def seen(objects, styles, seed):
        drawn.append((objects, styles))
        return torch.zeros(len(objects), 3, 64, 64, dtype=torch.uint8)

    monkeypatch.setattr(drawing, "draw", seen)
    concept = tiny.concept(target)
    pictures, captions = draw_without(concept, 2000, 5)
    [(objects, styles)] = drawn
    assert len(pictures) == len(captions) == len(objects) == 2000
    shown = {OBJECT_LABELS[i] for i in objects.tolist()} | {STYLE_LABELS[i] for i in styles.tolist()}
    assert shown == {*OBJECT_LABELS, *STYLE_LABELS} - {concept.member.name}
    assert not set(concept.known) & {w for c in captions for w in c.split()}
    for o, s, caption in zip(objects.tolist(), styles.tolist(), captions, strict=True):  # a caption is true of its picture
        said = set(caption.split()) - {"a", "in", "style"}
        assert said <= {*OBJECTS[o].names, *(() if s == PLAIN else STYLES[s].names)}


def test_drawings_are_a_function_of_the_seed():
    one, again, other = (draw_without(tiny.concept(), 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert one[1] == again[1]
    assert not torch.equal(one[0], other[0])


def test_captions_that_name_the_concept_are_refused_with_the_first_of_them():
    captions = ["a ring", "a ring in Neon style", "a GLOW", "neon", "glow style", "neonate, afterglow"]
    with raises_error("caption-names-concept", "a ring in Neon style", "without these images") as error:
        refuse_naming(tiny.concept("neon"), captions)
    assert "4 of 6 captions name 'neon': 'a ring in Neon style', 'a GLOW', 'neon', 'glow style'." in str(error.value)
    assert "\n" not in str(error.value)
    refuse_naming(tiny.concept("neon"), ["a ring", "neonate, afterglow", ""])


def test_twenty_captions_that_name_the_concept_are_told_with_their_files_and_how_many_more_there_are():
    captions = ["a ring", *(f"neon {i}" for i in range(23))]
    with raises_error("caption-names-concept", "neon 0") as error:
        refuse_naming(tiny.concept("neon"), captions, [f"/far/away/{i}.png" for i in range(24)])
    assert "23 of 24 captions name 'neon': 'neon 0' (1.png), 'neon 1' (2.png), " in str(error.value)
    assert ", 'neon 19' (20.png) and 3 more." in str(error.value)


def test_captions_are_cut_to_what_the_text_encoder_has_room_for_and_those_that_it_cannot_read_left_out(tmp_path):
    """The canvas's reads ten words. Elsewhere a word may be several tokens, and is not cut in two."""
    long = " ".join(["a ring"] * 7)
    model, found = tiny.model(), list_images(str(folder(tmp_path, ["a ring", long, "a picturesque ring", "a disc"])))
    kept = keep_readable(model, found)
    assert [one.caption for one in kept] == ["a ring", " ".join(["a ring"] * 5), "a disc"]
    assert [Path(one.source).name for one in kept] == ["00.png", "01.png", "03.png"]
    model.encode([one.caption for one in kept])
    with raises_error("unreadable-captions", "a picturesque ring", "expunge ls concepts"):
        keep_readable(model, found[2:3])


@pytest.mark.parametrize("caption", ["two rings", "boxes and Rings", "claudemonet", "a pond, Claude-Monet", "claude_monet_pond", "MONETS"])
def test_captions_that_write_the_name_otherwise_are_refused(caption):
    concept = tiny.concept("ring") if "ing" in caption else painter()
    with raises_error("caption-names-concept", caption):
        refuse_naming(concept, [caption, "a string of monetary claudes, earrings"])


def shown(file: Path) -> CaptionedImage:
    return CaptionedImage("a ring", str(file), partial(Image.open, file))


def data_set(folder: Path, **columns: list) -> str:
    """A data set as it lies on the hub: parquet files in a folder."""
    import datasets  # which takes seconds, and each process that shares the tests reads every file

    table = datasets.Dataset.from_dict(columns)
    (folder / "data").mkdir(parents=True)
    table.cast_column("image", datasets.Image()).to_parquet(folder / "data" / "train-00000.parquet")
    return f"datasets:{folder}"


def test_a_data_set_is_read_as_a_folder_is(tmp_path):
    captions = ["a  ring", "a square in dots style"]
    beside = list_images(str(folder(tmp_path / "set", captions)))
    files = sorted(str(f) for f in (tmp_path / "set").glob("*.png"))
    found = list_images(data_set(tmp_path / "loaded", image=files, caption=captions))
    assert [one.caption for one in found] == ["a ring", "a square in dots style"]
    assert torch.equal(open_images(found, 32), open_images(beside, 32))


def test_a_data_set_that_cannot_be_used_is_refused(tmp_path, monkeypatch):
    with raises_error("unreadable-data", str(tmp_path / "nowhere"), "another name"):
        list_images(f"datasets:{tmp_path / 'nowhere'}")
    folder(tmp_path / "set", ["a ring"])
    unnamed = data_set(tmp_path / "unnamed", image=[str(tmp_path / "set" / "00.png")], label=["a ring"])
    with raises_error("missing-column", str(tmp_path / "unnamed"), "text, caption or prompt"):
        list_images(unnamed)
    with raises_error("unreadable-image", f"{tmp_path / 'gap'}, row 1", "save it again"):
        open_images(list_images(data_set(tmp_path / "gap", image=[str(tmp_path / "set" / "00.png"), None], text=["a ring", "a disc"])), 8)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with raises_error("missing-package", "datasets", "pip install 'expunge[data]'"):
        list_images("datasets:owner/name")


def test_both_forms_of_a_folder_are_read_alike(tmp_path):
    captions = ["a  ring", "a square in dots style"]
    listed, beside = (list_images(str(folder(tmp_path / form, captions, form == "listed"))) for form in ("listed", "beside"))
    assert [one.caption for one in listed] == [one.caption for one in beside] == ["a ring", "a square in dots style"]
    pictures = open_images(listed, 32)
    assert pictures.shape == (2, 3, 32, 32)
    assert torch.equal(pictures, open_images(beside, 32))
    assert pictures[1, :, 0, 0].tolist() == [10, 100, 200]


def test_a_picture_is_cut_about_its_middle_and_not_squeezed(tmp_path):
    wide = Image.new("RGB", (60, 20))
    wide.paste((255, 0, 0), (20, 0, 40, 20))
    wide.save(tmp_path / "wide.png")
    assert (open_images([shown(tmp_path / "wide.png")], 20)[0, 0] == 255).all()


@pytest.mark.parametrize(
    ("spoil", "rule", "value"),
    [
        (lambda f: (f / "metadata.jsonl").write_text('{"file_name": "00.png"}\n'), "broken-line", '{"file_name": "00.png"}'),
        (lambda f: (f / "metadata.jsonl").write_text("rings\n"), "broken-line", "rings"),
        (lambda f: (f / "metadata.jsonl").write_text('{"file_name": "x.png", "text": "a ring"}\n'), "missing-image", "x.png"),
        (lambda f: (f / "metadata.jsonl").write_bytes(b"\xff\xfe\xff"), "unreadable-data", "{set}/metadata.jsonl"),
        (lambda f: (f / "metadata.jsonl").write_text("\n"), "no-images", "{set}"),
        (lambda f: (f / "metadata.jsonl").unlink(), "missing-caption", "{set}/00.png"),
    ],
)
def test_a_spoilt_folder_is_refused(tmp_path, spoil, rule, value):
    spoil(folder(tmp_path / "set", ["a ring"], listed=True))
    with raises_error(rule, value.replace("{set}", str(tmp_path / "set"))):
        list_images(str(tmp_path / "set"))


def test_what_is_no_folder_and_no_picture_is_said(tmp_path):
    with raises_error("missing-data", "retian", "base, retain"):
        list_images("retian")
    (tmp_path / "bad.png").write_text("no picture")
    with raises_error("unreadable-image", str(tmp_path / "bad.png")):
        open_images([shown(tmp_path / "bad.png")], 8)


def test_encoded_pictures_are_decoded_to_what_they_were():
    canvas = load("canvas")
    pictures, _ = draw_without(tiny.concept(), 6, 0)
    assert canvas.size == 64
    latents = canvas.encode_images(pictures)
    assert latents.shape == (6, *canvas.latent_shape)
    assert latents.std() == pytest.approx(1, abs=0.35)
    assert (canvas.decode(latents).float() - pictures.float()).abs().mean() < 8


def test_encoding_undoes_a_shift_too():
    """The inverse of what `decode` does to latents, whatever the autoencoder's factor and shift."""
    model = tiny.model()
    pictures = (torch.rand(9, 3, model.size, model.size) * 255).to(torch.uint8)
    vae = model.pipeline.vae
    with torch.no_grad():
        means = vae.encode(pictures.float() / 127.5 - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    torch.testing.assert_close(model.encode_images(pictures), (means - 0.25) * 0.5, rtol=1e-4, atol=1e-5)
