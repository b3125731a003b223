"""Concepts, vocabularies and the prompts that follow from them; numbers of the canvas are counted by hand (20 objects, 10 styles)."""

from pathlib import Path

import pytest

from expunge.concept import PROBES, Concept, Member, Vocabulary
from expunge.types import ExpungeError

CANVAS = Vocabulary.canvas()
GENERAL = Vocabulary.general()

SMALL = """
[taste]
alone = "{target} taste"
together = "a {partner} of {target} taste"
partner = "dish"
members = [
    { name = "sweet", synonyms = ["sugary", "honeyed"], family = "pleasant" },
    { name = "salty", family = "pleasant" },
    "bitter",
]

[dish]
alone = "a {target}"
together = "a {target} of {partner} taste"
partner = "taste"
members = ["soup", "pie"]
"""


@pytest.fixture
def small(tmp_path: Path) -> Vocabulary:
    """Three tastes and two dishes."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return Vocabulary.load(path)


def prompts(concept: Concept, probe: str) -> list[str]:
    return [p.prompt for p in concept.probes()[probe]]


# --- finding a concept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "vocabulary", "target", "kind"),
    [
        ("neon", CANVAS, "neon", "style"),
        ("neon style", CANVAS, "neon", "style"),
        ("  NEON   Style ", CANVAS, "neon", "style"),
        ("a ring", CANVAS, "ring", "object"),
        ("glow", CANVAS, "glow", "style"),
        ("a Hoop", CANVAS, "hoop", "object"),
        ("Van Gogh style", GENERAL, "Van Gogh", "style"),
        ("vincent van gogh", GENERAL, "Vincent van Gogh", "style"),
        ("a portrait of Albert Einstein", GENERAL, "Albert Einstein", "identity"),
        ("something wooden", GENERAL, "wooden", "attribute"),
        ("Nudity", GENERAL, "nudity", "unsafe"),
        ("a castle", GENERAL, "castle", "scene"),
    ],
)
def test_a_concept_is_found_by_name_synonym_or_prompt(text: str, vocabulary: Vocabulary, target: str, kind: str):
    concept = Concept.find(text, vocabulary)
    assert (concept.target, concept.kind) == (target, kind)


def test_a_synonym_belongs_to_the_member_that_it_names():
    by_name, by_synonym = Concept.find("ring", CANVAS), Concept.find("hoop", CANVAS)
    assert by_synonym.member is by_name.member
    assert by_synonym.others == by_name.others
    assert prompts(by_synonym, "target") == prompts(by_name, "synonyms")
    assert prompts(by_synonym, "synonyms") == prompts(by_name, "target")


@pytest.mark.parametrize(
    ("text", "target", "kind"),
    [
        ("Fernando Botero style", "Fernando Botero", "style"),
        ("a portrait of Jane Doe", "Jane Doe", "identity"),
        ("a quokka", "quokka", "object"),
    ],
)
def test_an_unlisted_name_takes_the_kind_whose_prompt_it_fits(text: str, target: str, kind: str):
    concept = Concept.find(text, GENERAL)
    assert (concept.target, concept.kind, concept.member, concept.siblings) == (target, kind, Member(target), ())
    assert concept.others == GENERAL.kinds[kind].members


def test_an_unlisted_name_may_say_its_kind():
    assert Concept.find("Fernando Botero", GENERAL, kind="style").bare == ("Fernando Botero style",)
    assert Concept.find("Fernando Botero style", GENERAL, kind="style").bare == ("Fernando Botero style",)


def test_a_kind_that_is_given_is_searched_alone():
    assert Concept.find("Van Gogh", GENERAL, kind="identity").kind == "identity"


@pytest.mark.parametrize(("typo", "nearest"), [("neno", "neon"), ("hexagone", "hexagon"), ("watercolor", "watercolour")])
def test_an_unknown_name_is_told_the_nearest(typo: str, nearest: str):
    with pytest.raises(ExpungeError, match=rf"'{typo}' is not \(nearest: '{nearest}'\); or say what it is with --kind style\|object"):
        Concept.find(typo, CANVAS)


def test_a_name_like_no_other_is_told_no_nearest():
    with pytest.raises(ExpungeError, match=r"'qqqq' is not; or say"):
        Concept.find("qqqq", CANVAS)


def test_an_unknown_kind_is_told_the_nearest():
    with pytest.raises(ExpungeError, match=r"a kind is one of style, object: 'stile' is none \(nearest: 'style'\)"):
        Concept.find("neon", CANVAS, kind="stile")


@pytest.mark.parametrize("empty", ["", "   ", "\n\t"])
def test_empty_words_are_refused(empty: str):
    cases = {
        "target": (empty, CANVAS),
        "synonym": ("neon", CANVAS, (empty,)),
        "anchor": ("neon", CANVAS, (), empty),
    }
    for what, arguments in cases.items():
        with pytest.raises(ExpungeError, match=f"a {what} has words: .* has none"):
            Concept.find(*arguments)


# --- what is forgotten -------------------------------------------------------------------------------------------------


def test_forget_prompts_word_by_word(small: Vocabulary):
    soup, pie, alone = Concept.find("sweet", small).forget()
    assert (soup.prompt, soup.context) == ("a soup of sweet taste", "a soup")
    assert soup.marginals == ("a soup of salty taste", "a soup of bitter taste")
    assert (pie.prompt, pie.context) == ("a pie of sweet taste", "a pie")
    assert (alone.prompt, alone.context, alone.marginals) == ("sweet taste", "", ("salty taste", "bitter taste"))


def test_without_an_anchor_the_context_stands_for_it(small: Vocabulary):
    assert all(p.anchor == p.context for p in Concept.find("sweet", small).forget())


def test_the_anchor_takes_the_place_of_the_concept(small: Vocabulary):
    anchors = [p.anchor for p in Concept.find("sweet", small, anchor="mild").forget()]
    assert anchors == ["a soup of mild taste", "a pie of mild taste", "mild taste"]


def test_given_synonyms_are_forgotten_too(small: Vocabulary):
    concept = Concept.find("sweet", small, ("sugary",))
    assert concept.names == ("sweet", "sugary")
    assert concept.bare == ("sweet taste", "sugary taste")
    assert [p.prompt for p in concept.forget()] == [
        "a soup of sweet taste", "a pie of sweet taste", "sweet taste",
        "a soup of sugary taste", "a pie of sugary taste", "sugary taste",
    ]  # fmt: skip


def test_a_synonym_that_is_another_member_is_spared_nothing(small: Vocabulary):
    """Who erases salty together with sweet wants neither kept: salty is no marginal, no sibling and not retained."""
    concept = Concept.find("sweet", small, ("salty",))
    assert [m.name for m in concept.others] == ["bitter"]
    assert not any("salty" in p for p in concept.retain())
    assert "salty taste" in prompts(concept, "synonyms")


@pytest.mark.parametrize(("name", "partners", "others"), [("neon", 20, 9), ("ring", 10, 19)])
def test_forget_prompts_of_the_canvas(name: str, partners: int, others: int):
    """A prompt with each partner and one alone, for each name; every other member of the kind fills the slot in turn."""
    forget = Concept.find(name, CANVAS).forget()
    assert len(forget) == partners + 1
    assert {len(p.marginals) for p in forget} == {others}
    assert len(Concept.find(name, CANVAS, CANVAS.find(name)[1].synonyms).forget()) == 2 * (partners + 1)


def test_contexts_of_the_canvas():
    assert next((p.prompt, p.context) for p in Concept.find("neon", CANVAS).forget()) == ("a triangle in neon style", "a triangle")
    assert next((p.prompt, p.context) for p in Concept.find("ring", CANVAS).forget()) == ("a ring in outline style", "outline style")


# --- what is measured --------------------------------------------------------------------------------------------------


def test_every_probe_is_described():
    assert Concept.find("neon", CANVAS).probes().keys() == PROBES.keys()


def test_probes_word_by_word(small: Vocabulary):
    concept = Concept.find("sweet", small, ("luscious",))
    assert prompts(concept, "target") == ["sweet taste", "a soup of sweet taste", "a pie of sweet taste"]
    assert prompts(concept, "synonyms")[::3] == ["honeyed taste", "luscious taste", "sugary taste"]
    assert prompts(concept, "siblings") == ["salty taste", "a soup of salty taste", "a pie of salty taste"]
    assert prompts(concept, "same_domain") == ["bitter taste", "a soup of bitter taste", "a pie of bitter taste"]
    assert prompts(concept, "cross_domain") == ["a soup", "a pie"]
    assert prompts(concept, "null") == [""]


def test_labels_are_main_names_by_kind(small: Vocabulary):
    probes = Concept.find("sweet", small).probes()
    assert [p.labels for p in probes["target"]] == [
        {"taste": "sweet"},
        {"taste": "sweet", "dish": "soup"},
        {"taste": "sweet", "dish": "pie"},
    ]
    assert {p.labels["taste"] for p in probes["synonyms"]} == {"sweet"}
    assert [p.labels for p in probes["cross_domain"]] == [{"dish": "soup"}, {"dish": "pie"}]
    assert probes["null"][0].labels == {}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        # neon has 3 siblings among the lines and 6 other styles; each style is shown alone and on 20 objects, 21 prompts.
        ("neon", {"target": 21, "synonyms": 21, "siblings": 63, "same_domain": 126, "cross_domain": 20, "null": 1}),
        # ring has 3 siblings among the rounds and 16 other objects; each object is shown alone and in 10 styles, 11 prompts.
        ("ring", {"target": 11, "synonyms": 11, "siblings": 33, "same_domain": 176, "cross_domain": 10, "null": 1}),
    ],
)
def test_sizes_of_the_canvas_probes(name: str, sizes: dict[str, int]):
    concept = Concept.find(name, CANVAS)
    assert {probe: len(p) for probe, p in concept.probes().items()} == sizes
    assert len(concept.retain()) == sizes["siblings"] + sizes["same_domain"] + sizes["cross_domain"] + sizes["null"]


def test_siblings_of_the_canvas():
    assert [m.name for m in Concept.find("neon", CANVAS).siblings] == ["outline", "sketch", "blueprint"]
    assert [m.name for m in Concept.find("hoop", CANVAS).siblings] == ["disc", "crescent", "horseshoe"]


@pytest.mark.parametrize(("vocabulary", "every"), [(CANVAS, 1), (GENERAL, 10)], ids=["canvas", "general"])
def test_nothing_that_is_retained_names_the_concept(vocabulary: Vocabulary, every: int):
    for kind in vocabulary.kinds.values():
        for member in kind.members[::every]:
            concept = Concept.find(member.name, vocabulary, member.synonyms, kind=kind.name)
            assert not {p.prompt for p in concept.forget()} & set(concept.retain())


# --- vocabularies ------------------------------------------------------------------------------------------------------


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


def test_members_of_a_toml_vocabulary(small: Vocabulary):
    assert small.kinds["taste"].members == (
        Member("sweet", ("sugary", "honeyed"), "pleasant"),
        Member("salty", (), "pleasant"),
        Member("bitter"),
    )
    assert small.names == ["sweet", "sugary", "honeyed", "salty", "bitter", "soup", "pie"]


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.toml", b"[style", "a readable TOML or CSV file"),
        ("v.toml", b"\xff\xfe", "a readable TOML or CSV file"),
        ("v.csv", b"\xff\xfe", "a readable TOML or CSV file"),
        ("v.toml", SMALL.replace('partner = "dish"', "").encode(), "lacks 'partner'"),
        ("v.toml", SMALL.replace('{ name = "salty"', '{ nom = "salty"').encode(), "lacks 'name'"),
        ("v.toml", SMALL.replace('partner = "dish"', 'partner = "drink"').encode(), "pairs taste with 'drink'; have taste, dish"),
        ("v.toml", SMALL.replace('"{target} taste"', '"some taste"').encode(), "not so for taste"),
        ("v.toml", SMALL.replace("a {partner} of", "food of").encode(), "not so for taste"),
        ("v.csv", b"name\nEscher\n", "lacks 'kind'"),
        ("v.csv", b"kind,name\nstile,Escher\n", "uses the kinds style, .* has stile"),
    ],
)
def test_a_broken_vocabulary_says_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExpungeError, match=message) as caught:
        Vocabulary.load(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", "missing.csv", "."])
def test_a_vocabulary_that_cannot_be_read_says_so(tmp_path: Path, name: str):
    with pytest.raises(ExpungeError, match="a vocabulary is a readable TOML or CSV file"):
        Vocabulary.load(tmp_path / name)
