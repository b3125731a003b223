"""Each model family passes each check, or is refused for a declared reason: the table of docs/reference/models.md.

The table is made of `record.json`, which a run of this module with EXPUNGE_RECORD_FAMILIES=1 writes.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge.errors import ExpungeError
from families import EVERY
from families.checks import CHECKS, Made
from families.reasons import REASONS, WHY

RECORD = Path(__file__).with_name("record.json")
PASSED = "passed"


@pytest.fixture(scope="module")
def passed() -> Iterator[dict[str, dict[str, str]]]:
    """What each family came to in this run, check by check. It replaces those cells of the record; cells of other runs stay."""
    found: dict[str, dict[str, str]] = {family: {} for family in EVERY}
    yield found
    if os.environ.get("EXPUNGE_RECORD_FAMILIES"):
        before = json.loads(RECORD.read_text(encoding="utf-8"))["families"] if RECORD.exists() else {}
        cells = {f: {c: now.get(c) or before.get(f, {}).get(c) for c in CHECKS} for f, now in found.items()}
        titles = {name: check.__doc__ for name, check in CHECKS.items()}
        made = {"checks": titles, "reasons": WHY, "families": cells}
        RECORD.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="module", params=list(EVERY))
def made(request, tmp_path_factory) -> tuple[str, Made]:
    return request.param, Made(EVERY[request.param], tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
def test_a_family_passes_a_check_or_is_refused_for_the_declared_reason(made: tuple[str, Made], check: str, passed):
    family, subject = made
    rule = REASONS.get((family, check))
    if rule is None:
        CHECKS[check](subject)
    else:
        with pytest.raises(ExpungeError) as caught:
            CHECKS[check](subject)
        assert caught.value.rule == rule
    passed[family][check] = rule or PASSED


def test_the_record_is_of_these_cells():
    """Record again after a change: EXPUNGE_RECORD_FAMILIES=1 pytest tests/families/test_table.py, then docs/generate.py."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert record["families"] == {f: {c: REASONS.get((f, c), PASSED) for c in CHECKS} for f in EVERY}
    assert record["checks"] == {name: check.__doc__ for name, check in CHECKS.items()}
    assert record["reasons"] == WHY
    assert set(REASONS.values()) <= WHY.keys()
