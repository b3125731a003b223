"""Vocabularies, built in and read from files: what they hold, and what is said of a broken one."""

from dataclasses import asdict
from pathlib import Path

import pytest
from tastes import TASTES, TOML

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Member, Vocabulary
from expunge.errors import ExpungeError

CANVAS = Vocabulary.canvas()
GENERAL = Vocabulary.general()


@pytest.mark.parametrize("vocabulary", [CANVAS, GENERAL], ids=["canvas", "general"])
def test_a_name_means_one_thing(vocabulary: Vocabulary):
    names = [n.casefold() for n in vocabulary.names]
    assert sorted(n for n in set(names) if names.count(n) > 1) == []


@pytest.mark.parametrize("vocabulary", [CANVAS, GENERAL], ids=["canvas", "general"])
def test_every_prompt_leads_back_to_its_concept(vocabulary: Vocabulary):
    for kind in vocabulary.kinds.values():
        for member in kind.members:
            for name in (member.name, *member.synonyms):
                concept = Concept.find(kind.alone.format(target=name), vocabulary)
                assert (concept.target, concept.kind) == (name, kind.name)


def test_articles_of_the_general_vocabulary_are_right():
    """Its templates say "a", so whatever may follow one begins with a consonant."""
    for kind in GENERAL.kinds.values():
        if kind.alone.startswith("a {target}") or kind.together.startswith("a {target}"):
            assert [n for m in kind.members for n in (m.name, *m.synonyms) if n[0].casefold() in "aeiou"] == []


def test_the_general_vocabulary_knows_each_sort_of_concept():
    assert {"style", "object", "identity", "attribute", "unsafe"} <= GENERAL.kinds.keys()
    imagenette = "tench|springer spaniel|cassette player|chain saw|church|French horn|garbage truck|gas pump|golf ball|parachute"
    assert [name for name in imagenette.split("|") if not GENERAL.kinds["object"].find(name)] == []


def test_members_of_a_toml_vocabulary(tmp_path: Path):
    path = tmp_path / "tastes.toml"
    path.write_text(TOML)
    vocabulary = Vocabulary.load(path)
    assert vocabulary == TASTES
    assert vocabulary.kinds["taste"].members == (
        Member("sweet", ("sugary", "honeyed"), "pleasant"),
        Member("salty", (), "pleasant"),
        Member("bitter"),
    )
    assert vocabulary.names == ["sweet", "sugary", "honeyed", "salty", "bitter", "soup", "pie"]


def test_a_csv_vocabulary_replaces_the_members_of_its_kinds(tmp_path: Path):
    path = tmp_path / "dogs.csv"
    path.write_text("kind,name,synonyms,family\nobject, corgi ,Welsh corgi | corgwn,dogs\nobject,pug,,dogs\nobject,mug,,\n")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.kinds["object"].members == (
        Member("corgi", ("Welsh corgi", "corgwn"), "dogs"),
        Member("pug", (), "dogs"),
        Member("mug"),
    )
    assert vocabulary.kinds["object"].alone == GENERAL.kinds["object"].alone
    assert vocabulary.kinds["style"] == GENERAL.kinds["style"]
    assert [m.name for m in Concept.find("a corgi", vocabulary).siblings] == ["pug"]


def test_a_csv_vocabulary_may_leave_columns_out(tmp_path: Path):
    path = tmp_path / "names.csv"
    path.write_text("kind,name\nstyle,Escher\n")
    assert Vocabulary.load(path).kinds["style"].members == (Member("Escher"),)


@pytest.mark.parametrize("name", ["dogs.csv", "dogs.CSV"])
def test_a_csv_vocabulary_may_come_from_a_spreadsheet(tmp_path: Path, name: str):
    """Spreadsheets begin UTF-8 with a byte-order mark, end lines with CRLF, and some write names in capitals."""
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbfkind,name,synonyms,family\r\nobject,corgi,,dogs\r\n")
    assert Vocabulary.load(path).kinds["object"].members == (Member("corgi", (), "dogs"),)


def test_a_toml_vocabulary_may_begin_with_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "marked.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TOML.encode())
    assert Vocabulary.load(path) == TASTES


def test_names_are_tidied(tmp_path: Path):
    path = tmp_path / "spaced.toml"
    path.write_text(TOML.replace('"bitter"', '"  very   bitter "'))
    assert Concept.find("very bitter", Vocabulary.load(path)).member == Member("very bitter")


def changed(old: str, new: str) -> bytes:
    """The small vocabulary with one thing wrong."""
    assert TOML.count(old) == 1
    return TOML.replace(old, new).encode()


SWEET, TASTE = 'synonyms = ["sugary", "honeyed"]', 'alone = "{target} taste"'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.toml", b"[style", "a readable TOML or CSV file"),
        ("v.toml", b"\xff\xfe", "a readable TOML or CSV file"),
        ("v.csv", b"\xff\xfe", "a readable TOML or CSV file"),
        ("v.toml", b"", "v.toml is empty"),
        ("v.toml", b"taste = 1", "in taste of .*, 1 is not a table"),
        ("v.toml", changed('partner = "dish"', ""), "in taste of .*, 'partner' is missing"),
        ("v.toml", changed('{ name = "salty"', '{ nom = "salty"'), "in taste of .*, 'name' is missing"),
        ("v.toml", changed('partner = "dish"', "partner = 3"), "3 is not a text"),
        ("v.toml", changed('partner = "dish"', 'partner = "dish"\nharmless = "no"'), "'no' is not true or false"),
        ("v.toml", changed('["soup", "pie"]', '"bcd"'), "'bcd' is not a list of members"),
        ("v.toml", changed('["soup", "pie"]', '["soup", 7]'), "7 is not a member"),
        ("v.toml", changed(SWEET, 'synonyms = "bcd"'), "'bcd' is not a list of synonyms"),
        ("v.toml", changed(SWEET, "synonyms = [7]"), "7 is not a synonym"),
        ("v.toml", changed('partner = "dish"', 'partner = "drink"'), "taste in .* has 'drink'; the others are: dish"),
        ("v.toml", changed('partner = "dish"', 'partner = "taste"'), "partner is another kind: taste in .* has 'taste'"),
        ("v.toml", changed(TASTE, 'alone = "some taste"'), "alone holds {target} once .* taste in .* has 'some taste'"),
        ("v.toml", changed(TASTE, 'alone = "{target} or {target}"'), "alone holds {target} once"),
        ("v.toml", changed(TASTE, 'alone = "{target} taste}"'), "alone holds {target} once and no other braces"),
        ("v.toml", changed(TASTE, 'alone = "{ {target} taste"'), "alone holds {target} once and no other braces"),
        ("v.toml", changed(TASTE, 'alone = "{{target}} taste"'), "alone holds {target} once and no other braces"),
        ("v.toml", changed(TASTE, 'alone = "{target!r} taste"'), "alone holds {target} once and no other braces"),
        ("v.toml", changed(TASTE, 'alone = "{target} {colour}"'), "alone holds {target} once and no other braces"),
        ("v.toml", changed("a {partner} of", "food of"), "together holds {partner} and {target} once"),
        ("v.toml", changed("a {partner} of", "a {dish} of"), "together holds {partner} and {target} once"),
        ("v.toml", changed('"bitter"', '" "'), "taste in .* has an empty name"),
        ("v.toml", changed("honeyed", ""), "taste in .* has an empty name"),
        ("v.toml", changed('"bitter"', '"Sweet"'), "taste in .* has 'sweet' twice"),
        ("v.toml", changed('"bitter"', '"SUGARY"'), "taste in .* has 'sugary' twice"),
        ("v.toml", changed('["soup", "pie"]', "[]"), "dish in .* has no members"),
        ("v.csv", b"", "v.csv has none"),
        ("v.csv", b"kind,name,synonyms,family\n", "v.csv has none"),
        ("v.csv", b"name\nEscher\n", "line 2 of .* has '' and 'Escher'"),
        ("v.csv", b"kind,name\nstyle,Escher\n\nstile,Arp\n", "a kind .style, .* line 4 of .* has 'stile' and 'Arp'"),
        ("v.csv", b"kind,name\nstyle, \n", "line 2 of .* has 'style' and ''"),
        ("v.csv", b"kind,name\nstyle,Escher\nstyle,escher\n", "style in .* has 'Escher' twice"),
    ],
)
def test_a_broken_vocabulary_says_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExpungeError, match=message) as caught:
        Vocabulary.load(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_survives_being_written_as_tables():
    assert Vocabulary.from_tables({name: asdict(kind) for name, kind in TASTES.kinds.items()}) == TASTES


@pytest.mark.parametrize("name", ["missing.toml", "missing.csv", "."])
def test_a_vocabulary_that_cannot_be_read_says_so(tmp_path: Path, name: str):
    with pytest.raises(ExpungeError, match="a vocabulary is a readable TOML or CSV file"):
        Vocabulary.load(tmp_path / name)
