"""Vocabularies, built in and read from files: their members, and the errors of an invalid file."""

import tomllib
from dataclasses import asdict
from pathlib import Path
from unittest.mock import ANY

import pytest
from raising import raises_error
from tastes import TASTES, TOML

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Member, Vocabulary
from expunge.names import closest

CANVAS = Vocabulary.canvas()
GENERAL = Vocabulary.general()


def test_likeness_is_the_share_of_matching_letters():
    """difflib: twice the matching letters over all letters. "abcd" and "abcx" share 3 of 4 and 4, so 6/8 = 0.75; case is no matter."""
    assert closest("ABCX", ["abcd"], 0.75) == "abcd"
    assert closest("ABCX", ["abcd"], 0.76) is None
    assert closest("van", ["Van", "can"]) == "Van"


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


ROWS = "kind,name,synonyms,family\nstyle,Jane Doe,J. Doe,x\nstyle,John Roe,,x\n"


@pytest.mark.parametrize(
    "content",
    [
        ROWS.replace(",", ";").encode(),
        ROWS.replace(",", "\t").encode("utf-16"),
        ROWS.encode("utf-16-be").join([b"\xfe\xff", b""]),
        ROWS.replace("kind,name,synonyms,family", "Kind,NAME, Synonyms ,Family").encode(),
        ROWS.replace("style,", "Style ,").encode(),
        b"sep=;\r\n" + ROWS.replace(",", ";").replace("\n", "\r\n").encode(),
        (ROWS + "\n,,,\n").replace("\n", "\r\n").encode(),
        ROWS.replace("Jane Doe", '"Jane\nDoe"').encode(),
        ROWS.replace("\n", ",\n").encode(),
    ],
    ids=["semicolons", "tabs in UTF-16", "UTF-16 big-endian", "capital header", "capital kind", "sep=", "empty rows", "line break", "edge"],
)
def test_a_csv_vocabulary_is_read_as_spreadsheets_write_it(tmp_path: Path, content: bytes):
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    assert Vocabulary.load(path).kinds["style"].members == (Member("Jane Doe", ("J. Doe",), "x"), Member("John Roe", (), "x"))


def test_a_csv_error_names_the_line_on_which_the_row_begins(tmp_path: Path):
    path = tmp_path / "people.csv"
    path.write_text('kind,name\nstyle,"Jane\nDoe"\nstile,John Roe\n')
    with raises_error("unknown-kind", "stile") as caught:
        Vocabulary.load(path)
    assert str(caught.value).startswith("Line 4 of")


def test_two_spellings_may_be_names_of_one_member():
    tables = {name: asdict(kind) for name, kind in TASTES.kinds.items()}
    tables["dish"]["members"] = [{"name": "crème", "synonyms": ["creme"]}, "pie"]
    assert Vocabulary.from_tables(tables).kinds["dish"].find("CRÈME") == Member("crème", ("creme",))


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
    ("name", "content", "rule", "value"),
    [
        ("v.toml", b"[style", "unreadable-vocabulary", ANY),
        ("v.toml", b"\xff\xfe", "unreadable-vocabulary", ANY),
        ("v.csv", b"\xff\xfek", "unreadable-csv", ANY),
        ("v.toml", b"", "empty-vocabulary", ANY),
        ("v.toml", b"taste = 1", "invalid-kind", "taste"),
        ("v.toml", changed('partner = "dish"', ""), "invalid-kind", "taste"),
        ("v.toml", changed('{ name = "salty"', '{ nom = "salty"'), "invalid-kind", "taste"),
        ("v.toml", changed('partner = "dish"', "partner = 3"), "invalid-kind", "taste"),
        ("v.toml", changed('partner = "dish"', 'partner = "dish"\nharmless = "no"'), "invalid-kind", "taste"),
        ("v.toml", changed('["soup", "pie"]', '"bcd"'), "invalid-kind", "dish"),
        ("v.toml", changed('["soup", "pie"]', '["soup", 7]'), "invalid-kind", "dish"),
        ("v.toml", changed(SWEET, 'synonyms = "bcd"'), "invalid-kind", "taste"),
        ("v.toml", changed(SWEET, "synonyms = [7]"), "invalid-kind", "taste"),
        ("v.toml", changed('partner = "dish"', 'partner = "drink"'), "unknown-partner", "drink"),
        ("v.toml", changed('partner = "dish"', 'partner = "taste"'), "unknown-partner", "taste"),
        ("v.toml", changed(TASTE, 'alone = "some taste"'), "invalid-template", "some taste"),
        ("v.toml", changed(TASTE, 'alone = "{target} or {target}"'), "invalid-template", "{target} or {target}"),
        ("v.toml", changed(TASTE, 'alone = "{target} taste}"'), "invalid-template", "{target} taste}"),
        ("v.toml", changed(TASTE, 'alone = "{ {target} taste"'), "invalid-template", "{ {target} taste"),
        ("v.toml", changed(TASTE, 'alone = "{{target}} taste"'), "invalid-template", "{{target}} taste"),
        ("v.toml", changed(TASTE, 'alone = "{target!r} taste"'), "invalid-template", "{target!r} taste"),
        ("v.toml", changed(TASTE, 'alone = "{target} {colour}"'), "invalid-template", "{target} {colour}"),
        ("v.toml", changed("a {partner} of", "food of"), "invalid-template", "food of {target} taste"),
        ("v.toml", changed("a {partner} of", "a {dish} of"), "invalid-template", "a {dish} of {target} taste"),
        ("v.toml", changed('"bitter"', '" "'), "invalid-members", "a member with an empty name"),
        ("v.toml", changed("honeyed", ""), "invalid-members", "a member with an empty name"),
        ("v.toml", changed('"bitter"', '"Sweet"'), "invalid-members", "the name 'sweet' twice"),
        ("v.toml", changed('"bitter"', '"SUGARY"'), "invalid-members", "the name 'sugary' twice"),
        ("v.toml", changed('["soup", "pie"]', "[]"), "invalid-members", "no members"),
        ("v.csv", b"", "empty-vocabulary", ANY),
        ("v.csv", b"kind,name,synonyms,family\n", "empty-vocabulary", ANY),
        ("v.csv", b"name\nEscher\n", "csv-header", "name"),
        ("v.csv", b"artist;prompt\nEscher;a dog\n", "csv-header", "artist;prompt"),
        ("v.csv", b"kind,name\n,Escher\n", "unknown-kind", ""),
        ("v.csv", b"kind,name\nstyle,Escher, M. C.\n", "csv-cells", ["M. C."]),
        ("v.csv", b'kind,name\nstyle,"Escher, M. C."\n', "list-as-name", "Escher, M. C."),
        ("v.csv", b'kind,name,synonyms\nstyle,Escher,"M. C. Escher, MCE"\n', "list-as-name", "M. C. Escher, MCE"),
        ("v.csv", b"kind,name,synonyms\nstyle,Escher,M. C. Escher; MCE\n", "list-as-name", "M. C. Escher; MCE"),
        ("v.csv", b'kind,name\nstyle,"Escher\n', "unreadable-csv", ANY),
        ("v.csv", "kind,name\nstyle,Jan\xe9\n".encode("cp1252"), "unreadable-csv", ANY),
        ("v.csv", "kind,name\nstyle,Miro\nstyle,Mir\xf3\n".encode(), "invalid-members", "the name 'Mir\xf3' beside 'Miro'"),
        ("v.csv", b"kind,name\nstyle,Escher\n\nstile,Arp\n", "unknown-kind", "stile"),
        ("v.csv", b"kind,name\nstyle, \n", "empty-name", ""),
        ("v.csv", b"kind,name\nstyle,Escher\nstyle,escher\n", "invalid-members", "the name 'Escher' twice"),
    ],
)
def test_a_broken_vocabulary_says_what_is_wrong(tmp_path: Path, name: str, content: bytes, rule: str, value: object):
    (tmp_path / name).write_bytes(content)
    with raises_error(rule, value) as caught:
        Vocabulary.load(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"taste = 1", "1 is not a table"),
        (changed('partner = "dish"', ""), "'partner' is missing"),
        (changed('{ name = "salty"', '{ nom = "salty"'), "'name' is missing"),
        (changed('partner = "dish"', "partner = 3"), "3 is not a text"),
        (changed('partner = "dish"', 'partner = "dish"\nharmless = "no"'), "'no' is not true or false"),
        (changed('["soup", "pie"]', '"bcd"'), "'bcd' is not a list of members"),
        (changed('["soup", "pie"]', '["soup", 7]'), "7 is not a member"),
        (changed(SWEET, 'synonyms = "bcd"'), "'bcd' is not a list of synonyms"),
        (changed(SWEET, "synonyms = [7]"), "7 is not a synonym"),
    ],
)
def test_an_invalid_kind_says_which_part_is_wrong(content: bytes, fault: str):
    with raises_error("invalid-kind") as caught:
        Vocabulary.from_tables(tomllib.loads(content.decode()))
    assert fault in str(caught.value)


def test_a_vocabulary_survives_being_written_as_tables():
    assert Vocabulary.from_tables({name: asdict(kind) for name, kind in TASTES.kinds.items()}) == TASTES


@pytest.mark.parametrize("name", ["missing.toml", "missing.csv", "."])
def test_a_vocabulary_that_cannot_be_read_says_so(tmp_path: Path, name: str):
    with raises_error("unreadable-vocabulary", str(tmp_path / name), "expunge show vocabulary"):
        Vocabulary.load(tmp_path / name)
