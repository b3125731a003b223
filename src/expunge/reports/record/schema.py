"""The form of `record.json`.

`record.schema.json` beside this file is the same as a JSON schema; `python -m expunge.reports.record.schema` writes it again.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.errors import ExpungeError
from expunge.storage.files import write_json

FORMAT = "expunge-record/1"
FILE = "record.schema.json"
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256")]
Table = dict[str, Any]


class _Part(BaseModel):
    """A table with these keys and no others. Numbers are finite; what is unknown is null."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Outcome(_Part):
    condition: str
    concept: str
    judge: str
    is_met: bool
    value: float | None
    low: float | None
    high: float | None
    reference: float
    n: int
    note: str


class Acceptance(_Part):
    criterion: str
    fixed: str | None = Field(description="When it was fixed, in UTC; null if it was given after the run.")
    is_fixed_before_run: bool
    is_met: bool
    outcomes: list[Outcome]


class Concept(_Part):
    target: str | None
    kind: str | None
    synonyms: list[str]
    anchor: str | None


class RunTable(_Part):
    id: str
    date: str | None
    method: str | None
    settings: Table
    training: Table
    scope: str | None
    seed: int | None
    code: str | None = Field(description="Digest of the code that decides the result.")
    concepts: list[Concept]
    delta: Digest | None = Field(description="Of the changed weights; null if the folder has none.")


class Original(_Part):
    name: str | None
    fingerprint: str | None
    files: dict[str, Digest] = Field(description="Empty if the model is no folder on the machine.")


class Merged(_Part):
    files: dict[str, Digest]


class Environment(_Part):
    device: str | None
    dtype: str | None
    platform: str
    versions: Table


class JudgeTable(_Part):
    name: str
    weights: str | None
    errors_on_base: dict[str, float] = Field(description="By metric and concept, the share of the base model's images that it misses.")
    error_rates: list[Table]


class Data(_Part):
    use: str
    name: str
    sha256: Digest | None = Field(description="Of a folder, over the names and digests of its files; null if it is not on the machine.")


class AuditTable(_Part):
    folder: str
    seed: int
    budget: Table
    judges: list[str]
    sampler: Table
    control: str | None


class ThreatModel(_Part):
    tried: list[str]
    attackers: list[str] = Field(description="What the attackers had.")
    not_tried: list[str]
    failed: list[Table]


class Measurement(_Part):
    model_config = ConfigDict(extra="allow")

    run: str
    concept: str
    metric: str
    probe: str
    judge: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Prompt(_Part):
    concept: str
    probe: str
    prompt: str
    seeds: list[int] = Field(description="Equal seeds of a prompt start from equal noise in both models.")


class Record(_Part):
    """The record of a run for an auditor, by `expunge report RUN --record`."""

    format: Literal["expunge-record/1"]
    written: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    status: list[str]
    acceptance: Acceptance | None
    run: RunTable
    base: Original
    merged: Merged | None
    environment: Environment
    judges: list[JudgeTable]
    data: list[Data]
    threat_model: ThreatModel
    audits: list[AuditTable]
    results: list[Measurement]
    findings: list[Table]
    sampler: Table
    protocol: Table
    prompts: list[Prompt]
    files: dict[str, Digest] = Field(description="Of the run's folder.")


def check(text: str, file: Path) -> None:
    """Whether a text is a record.

    Raises:
        ExpungeError: rule "not-a-record", it is none, or one of another format; rule "broken-record", a part of it does not follow the
            schema.
    """
    try:
        Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        if place in ("", "format"):
            raise ExpungeError(
                f"{file} is not a record of the format {FORMAT}.", rule="not-a-record", value=str(file), hint="Try RUN/record.json."
            ) from error
        raise ExpungeError(
            f"{file} does not follow the schema of records: {place}: {first['msg']}.",
            rule="broken-record",
            value=place,
            hint="Try to write the record again with `expunge report RUN --record`.",
        ) from error


def as_json_schema() -> dict[str, Any]:
    """The JSON schema of records."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}


if __name__ == "__main__":
    write_json(Path(__file__).with_name(FILE), as_json_schema())
