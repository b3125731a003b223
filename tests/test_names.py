"""The closest valid name for a misspelt one: one rule for methods, settings, concepts, metrics, files and verbs."""

import pytest
from test_architecture import FILES

from expunge.names import closest, nearest


def test_likeness_is_the_share_of_matching_letters():
    """difflib: twice the matching letters over all letters. "abcd" and "abcx" share 3 of 4 and 4, so 6/8 = 0.75."""
    assert closest("abcx", ["abcd"], 0.75) == "abcd"
    assert closest("abcx", ["abcd"], 0.76) is None


@pytest.mark.parametrize(("name", "valid", "found"), [("ira", ["UA", "IRA"], "IRA"), ("van", ["Van", "can"], "Van"), ("q", ["UA"], None)])
def test_case_does_not_matter(name: str, valid: list[str], found: str | None):
    assert closest(name, valid) == found
    assert nearest(name, valid) == (f" (nearest: {found!r})" if found else "")


def test_valid_names_may_be_any_iterable():
    assert closest("esdd", (name for name in ("uce", "esd"))) == "esd"
    assert nearest("esdd", {"uce": 1, "esd": 2}) == " (nearest: 'esd')"


def test_there_is_one_such_rule():
    assert [file for file, source in FILES.items() if "get_close_matches" in source] == ["names.py"]
