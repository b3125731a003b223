"""Concepts and the prompts that follow from them; numbers of the canvas are counted by hand (20 objects, 10 styles)."""

import pytest
from raising import raises_error
from tastes import TASTES

from expunge.concepts.concept import PROBES, Concept
from expunge.concepts.tables import concept_from, concept_table
from expunge.concepts.vocabulary import Member, Vocabulary

CANVAS = Vocabulary.canvas()
GENERAL = Vocabulary.general()


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


@pytest.mark.parametrize(
    ("typo", "close"),
    [("neno", "neon"), ("neno style", "neon"), ("hexagone", "hexagon"), ("a hexagone", "hexagon"), ("watercolor", "watercolour")],
)
def test_an_unknown_name_of_a_closed_vocabulary_gets_the_closest(typo: str, close: str):
    with raises_error("unknown-concept", typo, f"Try {close!r}; `expunge ls concepts` lists all."):
        Concept.find(typo, CANVAS)


@pytest.mark.parametrize("text", ["qqqq", "qqqq style", "a ring in neon style", "a portrait of Jane Doe"])
@pytest.mark.parametrize("kind", [None, "style", "object"])
def test_a_closed_vocabulary_takes_no_new_names(text: str, kind: str | None):
    with raises_error("unknown-concept", text):
        Concept.find(text, CANVAS, kind=kind)


def test_a_name_like_no_other_gets_no_suggestion():
    with raises_error("unknown-concept", "qqqq", "Try a name that `expunge ls concepts` lists."):
        Concept.find("qqqq", CANVAS)


@pytest.mark.parametrize(
    ("text", "close"),
    [("Van Goh style", "Van Gogh"), ("van goh style", "Van Gogh"), ("a portrait of Albert Einstien", "Albert Einstein")],
)
def test_an_open_vocabulary_takes_a_near_miss_for_a_typing_error(text: str, close: str):
    """Unless the kind is given: then the name is a new one."""
    with raises_error("unknown-concept", text, f"Try {close!r}; "):
        Concept.find(text, GENERAL)
    assert Concept.find(text, GENERAL, kind="style").member.synonyms == ()


def test_an_open_vocabulary_does_not_guess_the_kind_of_a_lone_name():
    with raises_error("unknown-concept", "Fernando Botero", "add --kind style|identity"):
        Concept.find("Fernando Botero", GENERAL)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("a castle in Van Gogh style", "Van Gogh"),
        ("a helicopter in MONET style", "Monet"),
        ("Einstein in front of a lake", "Einstein"),
    ],
)
def test_a_whole_prompt_is_no_concept_and_the_one_in_it_is_named(text: str, held: str):
    with raises_error("prompt-as-target", text, f"Try --target {held!r}."):
        Concept.find(text, GENERAL)


@pytest.mark.parametrize(
    ("text", "kind", "rule", "hint"),
    [
        ("Van Gogh, Claude Monet, Gustav Klimt style", None, "list-as-name", "--target 'Van Gogh' --target 'Claude Monet'"),
        ("nudity, nude; naked", "unsafe", "list-as-name", "--target 'nudity' --target 'nude' --target 'naked'"),
        ("a photo of Van Gogh", None, "member-in-name", "--target 'Van Gogh';"),
        ("late Claude Monet and Cézanne", "style", "member-in-name", "--target 'Claude Monet' --target 'Cezanne';"),
        ("a castle in Van Gogh style", "object", "member-in-name", "--target 'Van Gogh';"),
        ("neon, ring", None, "list-as-name", "--target 'neon' --target 'ring'"),
    ],
)
@pytest.mark.parametrize("vocabulary", [CANVAS, GENERAL])
def test_a_list_or_a_name_with_a_known_name_in_it_is_refused(text: str, kind: str | None, rule: str, hint: str, vocabulary: Vocabulary):
    """Else it would be removed as one concept, and prompts of the concepts in it retained."""
    if kind not in (None, *vocabulary.kinds) or (vocabulary.closed and rule == "member-in-name"):
        pytest.skip("a closed vocabulary takes no new names")
    with raises_error(rule, hint=hint) as caught:
        Concept.find(text, vocabulary, kind=kind)
    assert caught.value.value in text


def test_a_synonym_is_one_name():
    with raises_error("list-as-name", "nude, naked", "Try --synonym 'nude' --synonym 'naked'."):
        Concept.find("nudity", GENERAL, ("nude, naked",))


@pytest.mark.parametrize(("text", "kind"), [("red panda", "object"), ("Gogh", "style"), ("Monetary", "style"), ("C-3PO", "identity")])
def test_a_new_name_may_share_letters_or_a_word_of_a_distant_kind(text: str, kind: str):
    assert Concept.find(text, GENERAL, kind=kind).target == text


def test_a_name_is_the_same_with_accents_and_stays_as_it_was_written():
    """A text encoder reads "Cézanne" otherwise than "Cezanne": the given spelling is removed, the listed one is measured too."""
    concept = Concept.find("Paul CÉZANNE style", GENERAL)
    plain = Concept.find("Paul Cezanne", GENERAL)
    assert (concept.target, concept.member) == ("Paul CÉZANNE", plain.member)
    assert concept.others == plain.others
    assert set(concept.known) == {"Paul CÉZANNE", "Paul Cezanne", "Cezanne"}


def test_a_run_of_an_older_version_keeps_a_name_that_is_refused_now():
    old = Concept("Van Gogh, Claude Monet", "style", GENERAL, ("Vincent, Claude",))
    assert concept_from(concept_table(old)) == old


def test_an_unknown_kind_gets_the_closest():
    with raises_error("unknown-kind", "stile", "Try 'style', one of style, object."):
        Concept.find("neon", CANVAS, kind="stile")


@pytest.mark.parametrize("empty", ["", "   ", "\n\t"])
def test_empty_words_are_refused(empty: str):
    cases = {
        "target": (empty, CANVAS),
        "synonym": ("neon", CANVAS, (empty,)),
        "anchor": ("neon", CANVAS, (), empty),
    }
    for arguments in cases.values():
        with raises_error("empty-name", empty):
            Concept.find(*arguments)


def test_templates_are_stripped_from_synonyms_and_anchors():
    concept = Concept.find("neon style", CANVAS, ("glow  style", "Shine STYLE", "tube light"), anchor="sketch style")
    assert (concept.synonyms, concept.anchor) == (("glow", "Shine", "tube light"), "sketch")
    assert Concept.find("ring", CANVAS, ("a hoop",), anchor="a disc").forget()[-1].anchor == "a disc"


def test_synonyms_are_told_apart_whatever_their_case():
    """The target is no synonym of itself, and what differs only in case or template is one name."""
    assert Concept.find("neon", CANVAS, ("NEON", "Neon style")).synonyms == ()
    assert [s.casefold() for s in Concept.find("neon", CANVAS, ("glow", "GLOW style", "Glow", "shine")).synonyms] == ["glow", "shine"]


def test_a_synonym_in_another_case_is_probed_once():
    assert len(prompts(Concept.find("sweet", TASTES, ("Sugary",)), "synonyms")) == len(prompts(Concept.find("sweet", TASTES), "synonyms"))


# --- what is forgotten -------------------------------------------------------------------------------------------------


def test_forget_prompts_word_by_word():
    soup, pie, alone = Concept.find("sweet", TASTES).forget()
    assert (soup.prompt, soup.context) == ("a soup of sweet taste", "a soup")
    assert soup.marginals == ("a soup of salty taste", "a soup of bitter taste")
    assert (pie.prompt, pie.context) == ("a pie of sweet taste", "a pie")
    assert (alone.prompt, alone.context, alone.marginals) == ("sweet taste", "", ("salty taste", "bitter taste"))


def test_without_an_anchor_the_context_stands_for_it():
    assert all(p.anchor == p.context for p in Concept.find("sweet", TASTES).forget())


def test_the_anchor_takes_the_place_of_the_concept():
    anchors = [p.anchor for p in Concept.find("sweet", TASTES, anchor="mild").forget()]
    assert anchors == ["a soup of mild taste", "a pie of mild taste", "mild taste"]


def test_given_synonyms_are_forgotten_too():
    concept = Concept.find("sweet", TASTES, ("sugary",))
    assert concept.names == ("sweet", "sugary")
    assert concept.bare == ("sweet taste", "sugary taste")
    assert [p.prompt for p in concept.forget()] == [
        "a soup of sweet taste", "a pie of sweet taste", "sweet taste",
        "a soup of sugary taste", "a pie of sugary taste", "sugary taste",
    ]  # fmt: skip


def test_a_synonym_that_is_another_member_is_spared_nothing():
    """Who erases salty together with sweet wants neither kept: salty is no marginal, no sibling and not retained."""
    concept = Concept.find("sweet", TASTES, ("salty",))
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


def test_probes_word_by_word():
    concept = Concept.find("sweet", TASTES, ("luscious",))
    assert prompts(concept, "target") == ["sweet taste", "a soup of sweet taste", "a pie of sweet taste"]
    assert prompts(concept, "synonyms")[::3] == ["honeyed taste", "luscious taste", "sugary taste"]
    assert prompts(concept, "siblings") == ["salty taste", "a soup of salty taste", "a pie of salty taste"]
    assert prompts(concept, "same_domain") == ["bitter taste", "a soup of bitter taste", "a pie of bitter taste"]
    assert prompts(concept, "cross_domain") == ["a soup", "a pie"]
    assert prompts(concept, "null") == [""]


def test_labels_are_main_names_by_kind():
    probes = Concept.find("sweet", TASTES).probes()
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


@pytest.mark.parametrize(("vocabulary", "every"), [(CANVAS, 3), (GENERAL, 20)], ids=["canvas", "general"])
def test_nothing_that_is_retained_names_the_concept(vocabulary: Vocabulary, every: int):
    for kind in vocabulary.kinds.values():
        for member in kind.members[::every]:
            concept = Concept.find(member.name, vocabulary, member.synonyms, kind=kind.name)
            assert not {p.prompt for p in concept.forget()} & set(concept.retain())


def test_unsafe_content_is_replaced_by_its_context_alone():
    """Other unsafe content is neither what a prompt becomes nor what must survive: the partners and the empty prompt are."""
    concept = Concept.find("nudity", GENERAL)
    people = [f"a {m.name}" for m in GENERAL.kinds["person"].members]
    assert not GENERAL.kinds["unsafe"].harmless
    assert (concept.others, concept.siblings) == ((), ())
    assert [(p.prompt, p.context, p.marginals) for p in concept.forget()] == [
        *((f"{person}, nudity", person, ()) for person in people),
        ("nudity", "", ()),
    ]
    assert {probe for probe, p in concept.probes().items() if not p} == {"siblings", "same_domain"}
    assert concept.retain() == [*people, ""]
