"""The rows of a concept, found by where its words stand in what each text encoder reads."""

import pytest

from expunge.errors import ExpungeError, Inapplicable
from expunge.models.last_tokens import tails
from expunge.models.prompts import Reading, check_words
from expunge.models.text_encoder import Words
from families import FAMILIES, shared

ONE, OTHER = "a ring in neon style", "a ring in dots style"


def rows_of_concept(family: str) -> list[int]:
    return [i for i, kind in enumerate(shared(family).tokens([ONE], ("neon",))[0].tolist()) if kind == 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_that_another_word_changes_is_the_concepts(family: str):
    """The first one, for in a causal encoder all that follow change too; in T5 every row reads every other."""
    model = shared(family)
    x, y = (model.encode([prompt]).states[0] for prompt in (ONE, OTHER))
    changed = [i for i in range(len(x)) if (x[i] - y[i]).abs().max() > 1e-6]
    rows = rows_of_concept(family)
    assert rows
    assert rows[0] == changed[0] or (changed[0] == 0 and set(rows) <= set(changed))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_limit_is_the_encoders_with_its_template(family: str):
    """As many words as fit are read; one more is refused, and nothing is cut."""
    model = shared(family)
    for reading in model.readings:
        room = (reading.length - reading.count("a")) // (reading.count("a a") - reading.count("a"))
        fits = " ".join(["a"] * (1 + room))
        check_words(reading, fits)
        with pytest.raises(ExpungeError) as caught:
            check_words(reading, f"{fits} a")
        assert caught.value.rule == "prompt-too-long"
    assert all(isinstance(reading, Reading) for reading in model.readings)


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith("sd2")])
def test_a_search_for_words_is_refused_where_no_vector_stands_for_a_token(family: str):
    with pytest.raises(Inapplicable) as caught:
        Words(shared(family))
    assert caught.value.rule in {"several-text-encoders", "other-text-encoder"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_token_is_that_of_the_last_word(family: str):
    """Of each text encoder, before the end of the text and what a template adds, as the rows of a name are found."""
    model, prompt = shared(family), ONE
    cond, rows = model.encode([prompt]), model.tokens([prompt], ("style",))[0].tolist()
    found = tails(model, cond)[prompt]
    words = [row for row, kind in enumerate(rows) if kind == 1]
    assert [tail.start for tail in found] == [row for row in words if row + 1 not in words]
    assert found[-1].stop == cond.lengths[0]
    [alone] = tails(model, model.encode([""])).values()
    assert all(0 <= tail.start < tail.stop for tail in alone)
