"""A published protocol: what it is, what it needs from elsewhere, and what its papers report. Imports no torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from expunge import config
from expunge.bench.summary import is_share
from expunge.concepts.prompt_file import read_prompts
from expunge.errors import ExpungeError
from expunge.names import suggest
from expunge.storage.files import write_json
from expunge.storage.hashing import digest, sha256_of
from expunge.storage.images import ENDINGS, list_images

if TYPE_CHECKING:
    from expunge.bench.suite import Suite  # which imports the methods, and with them torch

GUIDE = "docs/how-to/published-protocols.md"
"""The page about protocols."""
RECORD = "data.json"
"""The file of a suite's folder that has the digests of the data that its runs used."""


@dataclass(frozen=True)
class About:
    """What a protocol is."""

    title: str
    measures: str
    """The numbers that it gives, with their published names."""
    papers: tuple[str, ...] = ()
    """arXiv ids, or other places of the papers that define it."""
    source: str = ""
    """The released script that it follows, with its commit."""
    model: str = ""
    """The model that the papers use. The suite itself names none, so `--model` must."""
    judge: str = ""
    """The judge that the papers use, and how to get it."""
    differs: tuple[str, ...] = ()
    """Where this protocol differs from the released script."""


@dataclass(frozen=True)
class Data:
    """Data that a protocol needs and that does not come with the package: prompts, a folder of pictures, or a metric's network."""

    kind: Literal["prompts", "pictures", "network"]
    about: str = ""
    where: str = ""
    """Where to get it."""
    id: str = ""
    """The id of the data set, on the hub or elsewhere."""
    file: str = ""
    """Where it lies on this machine, a file of prompts or a folder of pictures; empty: nowhere yet."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of prompts: the file's names of the columns `prompt`, `seed` and `guidance`."""
    rows: int | None = None
    """The number of prompts, or of pictures, of the published data."""
    sha256: str | tuple[str, ...] = ()
    """The SHA-256 of the published file, in each form in which it was published; empty: it is not known."""
    concepts: tuple[str, ...] = ()
    """The concepts whose runs it is for; empty: all."""
    metrics: tuple[str, ...] = ()
    """Of prompts: what is measured on their images, of `expunge.evaluation.prompt_lists.METRICS`. Of a network: the metrics that read it.
    Of pictures that no prompts name: the metrics of the suite that compare with them."""
    pictures: str = ""
    """Of prompts: the pictures that a distance compares their images with, another entry of `data`."""
    optional: bool = False
    """Whether the suite runs without it."""

    @property
    def digests(self) -> tuple[str, ...]:
        """The published digests."""
        return (self.sha256,) if isinstance(self.sha256, str) else self.sha256


@dataclass(frozen=True)
class Found:
    """Data as it is on this machine."""

    name: str
    file: str
    rows: int
    sha256: str
    """Of a folder: of the names and digests of its pictures."""
    note: str
    """Whether it is the published data."""


@dataclass(frozen=True)
class Need:
    """What a suite needs and has not."""

    option: str
    """The option that gives it."""
    about: str


@dataclass(frozen=True)
class Reported:
    """A published number."""

    method: str
    """The registered name of the method, or the paper's name of one that is not here."""
    metric: str
    value: float
    """In the unit of our metric: a share is between 0 and 1."""
    source: str
    of: str = ""
    """The concept, or the kind of concept, that it is about; empty: all of the protocol."""


@dataclass(frozen=True)
class _Table:
    """Published numbers in TOML: a row for each method, a column for each metric. Shares are in percent, as papers print them."""

    source: str
    metrics: tuple[str, ...]
    values: Mapping[str, tuple[float | str, ...]]
    of: str = ""


def builtin() -> list[str]:
    """The names of the suites that come with the package."""
    files = resources.files("expunge.bench.protocols").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def read_builtin(name: str) -> dict[str, Any]:
    """The tables of a suite that comes with the package."""
    with resources.as_file(resources.files("expunge.bench.protocols") / f"{name}.toml") as file:
        return config.read_toml(file)


def read_about(given: Any) -> About:
    """The table `about` of a protocol."""
    return config.build(About, given, "about", see=GUIDE)


def read_data(given: Any, name: str) -> dict[str, Data]:
    """The tables `data` of a suite."""
    if not isinstance(given, Mapping):
        raise ExpungeError(
            f"The data of the suite {name!r} is no table.",
            rule="not-a-table",
            value=given,
            hint=f"Try a table for each entry, as in {GUIDE}.",
        )
    entries = {key: config.build(Data, table, f"data.{key}", see=GUIDE) for key, table in given.items()}
    for key, entry in entries.items():
        others = [n for n, e in entries.items() if e.kind == "pictures"]
        if entry.pictures and entry.pictures not in others:
            raise ExpungeError(
                f"The entry {key!r} of data is compared with {entry.pictures!r}, which is no entry of pictures.",
                rule="unknown-data",
                value=entry.pictures,
                hint=suggest(entry.pictures, others) if others else f"Try an entry with kind = 'pictures', as in {GUIDE}.",
            )
    return entries


def read_reported(given: Any) -> tuple[Reported, ...]:
    """The tables `reported` of a protocol.

    Raises:
        ExpungeError: rule "reported-row", a row has another number of values than there are metrics.
    """
    found = []
    for entry in given:
        table = config.build(_Table, entry, "reported", see=GUIDE)
        for method, values in table.values.items():
            if len(values) != len(table.metrics):
                raise ExpungeError(
                    f"{method} has {len(values)} reported values, and there are {len(table.metrics)} metrics.",
                    rule="reported-row",
                    value=method,
                    hint='Try a value for each metric, and "" for one that was not reported.',
                )
            for metric, value in zip(table.metrics, values, strict=True):
                if not isinstance(value, str):
                    scale = 0.01 if is_share(metric) else 1.0
                    found.append(Reported(method, metric, round(scale * value, 6), table.source, table.of))
    return tuple(found)


def with_files(tables: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The tables `data` of a suite with the files that `--data NAME=FILE` gives.

    Raises:
        ExpungeError: rule "unknown-data", the suite has no such entry.
    """
    for name in files:
        if name not in tables:
            hint = suggest(name, tables) if tables else "Try it without --data."
            raise ExpungeError(f"The suite needs no data called {name!r}.", rule="unknown-data", value=name, hint=hint)
    return {name: {**table, **({"file": files[name]} if name in files else {})} for name, table in tables.items()}


def with_networks(table: Mapping[str, Any], data: Mapping[str, Data]) -> dict[str, Any]:
    """A suite's table with the networks and pictures of its data, and with the metrics that these allow."""
    features = {m: e.file for e in data.values() if e.kind == "network" and e.file for m in e.metrics} | dict(table.get("features", {}))
    compared = {e.pictures for e in data.values()}
    real = next((e for n, e in data.items() if e.kind == "pictures" and e.file and n not in compared), None)
    if real is None:
        return {**table, "features": features}
    allowed = [m for m in real.metrics if m in features and m not in table.get("metrics", ())]
    return {**table, "features": features, "real": real.file, "metrics": [*table.get("metrics", ()), *allowed]}


def look(name: str, entry: Data) -> Found | None:
    """Data on this machine; None if the entry names no file.

    Raises:
        ExpungeError: rule "no-such-data", there is nothing at its place; "no-pictures", a folder without images; as of `read_prompts`.
    """
    if not entry.file:
        return None
    path = Path(entry.file)
    if entry.kind == "network" and not path.is_file():  # a folder, or an id of the hub
        return Found(name, entry.file, 0, "", "a network of transformers, whose weights the results name")
    if not (path.is_dir() if entry.kind == "pictures" else path.is_file()):
        hint = f"Try --data {name}=PATH with another path."
        raise ExpungeError(f"The data {name!r} is not at {entry.file}.", rule="no-such-data", value=entry.file, hint=hint)
    if entry.kind == "pictures":
        pictures = list_images(path)
        if not pictures:
            hint = f"Try a folder with files that end in {', '.join(ENDINGS)}."
            raise ExpungeError(f"The folder {path} has no pictures.", rule="no-pictures", value=entry.file, hint=hint)
        rows, sha256 = len(pictures), digest([(p.relative_to(path).as_posix(), sha256_of(p)) for p in pictures])
    else:
        rows, sha256 = len(read_prompts(path, entry.columns)) if entry.kind == "prompts" else 0, sha256_of(path)
    return Found(name, str(path.resolve()), rows, sha256, _compare(entry, rows, sha256))


def _compare(entry: Data, rows: int, sha256: str) -> str:
    """Whether data is what was published."""
    many = f"{rows:,} {entry.kind}" if entry.kind != "network" else "a network"
    if sha256 in entry.digests:
        return f"the published file, {many}"
    if entry.rows is not None and rows != entry.rows:
        return f"not the published data: {many} instead of {entry.rows:,}"
    if entry.digests:
        return f"not the published file: {many} with another digest"
    return f"{many}; no digest is known of the published data, so this one is recorded"


def missing_needs(suite: "Suite") -> Iterator[Need]:
    """What a suite needs and has not: a model, a judge, data. Data that is optional is not missing, unless nothing else is measured."""
    about, targets = suite.about, suite.targets
    data = {n: e for n, e in suite.data.items() if not e.concepts or not targets.isdisjoint(e.concepts)}
    lists = {n: e for n, e in data.items() if e.kind == "prompts"}
    if about and about.model and not suite.model:
        yield Need("--model FOLDER", about.model)
    if about and about.judge and not suite.judge:
        yield Need("--judge SPEC", about.judge)
    for name, entry in data.items():
        if not entry.file and not entry.optional:
            yield Need(f"--data {name}={'FOLDER' if entry.kind == 'pictures' else 'FILE'}", describe_data(entry))
    if lists and suite.metrics == () and all(e.optional and not e.file for e in lists.values()):
        yield Need("--data NAME=FILE", f"at least one of {', '.join(lists)}")


def describe_data(entry: Data) -> str:
    """Data in words: what it is, how much, and where to get it."""
    count = "" if entry.rows is None else f" ({entry.rows:,} {entry.kind})"
    return f"{entry.about}{count}{', from ' if entry.where else ''}{entry.where}"


def refuse_missing(needs: Sequence[Need], name: str) -> None:
    """Raise an error if something that a suite needs is missing.

    Raises:
        ExpungeError: rule "missing-data".
    """
    if needs:
        raise ExpungeError(
            f"The suite {name!r} needs what it has not: {', '.join(f'{n.option} ({n.about})' for n in needs)}.",
            rule="missing-data",
            value=[n.option for n in needs],
            hint=f"Try `expunge bench {name} --dry-run`, which lists all of it.",
        )


def record(found: Iterable[Found], folder: Path) -> None:
    """Write the digests of data into a suite's folder."""
    write_json(folder / RECORD, [asdict(f) for f in found], indent=2)
