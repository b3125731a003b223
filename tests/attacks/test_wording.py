"""Fixed prompts: what each form holds, and what is said where a model reads none."""

import pytest
import tiny
from attacks.victims import victim
from raising import raises_error
from tastes import TASTES

from expunge.attacks.wording import Wording, list_compositions, list_misspellings, list_paraphrases, misspell_name
from expunge.concepts.concept import Concept
from expunge.concepts.name_set import compile_names
from expunge.concepts.vocabulary import Vocabulary

GENERAL = Vocabulary.general()


def asked(tmp_path, form: str, target: str = "neon", pictures: int = 40, **given) -> tuple[str, ...]:
    _, reading = Wording(form=form, **given)(victim(tmp_path, target, pictures=pictures))
    return reading.cond.keys


def test_synonyms_are_the_other_known_names(tmp_path):
    assert set(asked(tmp_path, "synonyms")) == {p.prompt for p in tiny.concept().probes()["synonyms"]}


@pytest.mark.parametrize("target", ["neon", "ring"])
@pytest.mark.parametrize("form", ["paraphrases", "composition"])
def test_the_canvas_reads_prompts_of_these_forms_and_none_is_a_usual_one(form, target, tmp_path):
    concept, found = tiny.concept(target), asked(tmp_path, form, target)
    assert len(set(found)) == 40
    assert all(compile_names([target]).search(p) for p in found)
    assert not {p.prompt for p in concept.probes()["target"]} & set(found)


@pytest.mark.parametrize("target", ["Van Gogh", "golden retriever", "Albert Einstein", "red", "nudity", "woman", "castle"])
def test_every_kind_of_the_general_vocabulary_has_wordings_that_name_the_concept(target):
    concept = Concept.find(target, GENERAL)
    for made in (list_paraphrases(concept), list_compositions(concept, " and ")):
        assert len(made) > 20
        assert all(target in p and "{" not in p for p in made)


def test_a_kind_of_ones_own_is_put_into_sentences_too():
    assert "a picture of " + Concept.find("salty", TASTES).probes()["target"][0].prompt in list_paraphrases(Concept.find("salty", TASTES))


def test_a_composition_is_the_concept_with_two_partners_or_joined_with_another_of_its_kind(tmp_path):
    made = list_compositions(tiny.concept("ring"), " and ")
    assert made[0] == "a ring in outline and stripes style"
    assert made[1] == "a ring and triangle in outline style"
    assert not any("ring and ring" in p or "ring and hoop" in p for p in made)
    assert "a ring triangle in outline style" in asked(tmp_path, "composition", "ring", pictures=400)  # the canvas does not know "and"


def test_unsafe_concepts_are_joined_with_no_other():
    """No other member may stand beside one of these."""
    concept = Concept.find("gore", GENERAL)
    assert all(", gore" in p and " and " in p for p in list_compositions(concept, " and "))


def test_only_what_is_asked_is_encoded(tmp_path):
    """Of hundreds of prompts that are looked at."""
    attacked = victim(tmp_path, pictures=4)
    _, reading = Wording(form="composition")(attacked)
    assert set(attacked.model._encoded) == {*attacked.asked()[0], *reading.cond.keys}


def test_a_misspelling_is_one_slip_and_no_other_name():
    assert misspell_name(tiny.concept("ring"))[:3] == ["rring", "ing", "irng"]
    assert not {"Lion", "lion"} & set(misspell_name(Concept.find("lion", GENERAL)))
    artist = Concept.find("Van Gogh", GENERAL)
    assert not any(compile_names(artist.known).search(p) for p in list_misspellings(artist))
    assert list_misspellings(tiny.concept("ring"))[0] == "a rring"


def test_a_model_of_whole_words_reads_no_misspelling(tmp_path):
    with raises_error("no-prompts", "misspellings", "the canvas only knows whole words"):
        asked(tmp_path, "misspellings")


def test_a_concept_without_other_names_has_no_synonyms(tmp_path):
    attacked = victim(tmp_path)
    lonely = Vocabulary.from_tables(
        {
            n: {"alone": k.alone, "together": k.together, "partner": k.partner, "members": [m.name for m in k.members]}
            for n, k in attacked.concept.vocabulary.kinds.items()
        }
    )
    alone = type(attacked)(attacked.session, Concept.find("neon", lonely))
    with raises_error("no-prompts", "synonyms", "vocabulary of your own"):
        next(Wording(form="synonyms")(alone))


def test_prompts_of_ones_own_are_read_in_turn_but_for_those_that_the_model_cannot_read(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a ring\n\n  neon   style \nsomething unheard of\n", encoding="utf-8-sig")
    assert asked(tmp_path, "file", file=str(file), pictures=3) == ("a ring", "neon style", "a ring")


def test_every_prompt_of_ones_own_is_tried_however_few_the_pictures(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a ring\nneon style\na disc\na coin\n")
    assert asked(tmp_path, "file", file=str(file), pictures=2) == ("a ring", "neon style", "a disc", "a coin")


def test_a_file_that_gives_no_prompt_is_told_of(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with raises_error("no-prompts", "file", f"a prompt on each line of {empty}"):
        asked(tmp_path, "file", file=str(empty))
    with raises_error("unreadable-prompts", str(tmp_path / "missing.txt")):
        asked(tmp_path, "file", file=str(tmp_path / "missing.txt"))


@pytest.mark.parametrize("given", [{"form": "file"}, {"form": "synonyms", "file": "prompts.txt"}])
def test_a_file_goes_with_its_form(given):
    with raises_error("form-without-its-file", (given["form"], given.get("file")), "together"):
        Wording(**given)


def test_the_pictures_start_from_the_noise_of_the_plain_prompts(tmp_path):
    attacked = victim(tmp_path, pictures=5)
    first, second = Wording()(attacked)
    assert first.noise_seeds == second.noise_seeds == tuple(attacked.noise_seeds)
    assert second.weights.keys() == attacked.delta.keys()
