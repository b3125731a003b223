"""What a user names a model by: a folder, a file, a hub id or "canvas", and how it is to be read. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from expunge.errors import ExpungeError

OPTIONS = ("variant", "config")

SAFE = "/\\:"
"""Characters of paths that stay as they are."""


@dataclass(frozen=True)
class Reference:
    """A model by its name, with the options that decide which of its files are read.

    Written as one text, `name#variant=fp16`, it goes into a run's card, so that what measures the run reads the same files.
    """

    name: str
    """A folder, a file, a hub id or "canvas"."""
    variant: str | None = None
    """Of the weights: "fp16" for files called `*.fp16.safetensors`. None: files without a variant, or else the only variant there is."""
    config: str | None = None
    """For a single file: the diffusers folder, or the hub id, that has the configuration of its parts. Weights need not be there."""

    @property
    def text(self) -> str:
        options = {name: value for name in OPTIONS if (value := getattr(self, name))}
        return f"{self.name}#{urlencode(options, safe=SAFE)}" if options else self.name

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Reads `text`; a path that exists as it is written has no options.

        Raises:
            ExpungeError: an unknown option.
        """
        name, mark, options = text.rpartition("#")
        if not mark or Path(text).exists():
            return cls(text)
        found = dict(parse_qsl(options, keep_blank_values=True))
        if not found or (unknown := sorted(found.keys() - set(OPTIONS))):
            raise ExpungeError(
                f"The model {text!r} has the option {(unknown if found else [options])[0]!r}, which is none.",
                rule="unknown-model-option",
                value=text,
                hint=f"Try NAME#variant=fp16 or NAME#config=FOLDER; the options are {' and '.join(OPTIONS)}.",
            )
        return cls(name, **found)


def with_options(model: str, variant: str | None, config: str | None) -> str:
    """A model's text with these options added; None leaves what the text says.

    >>> with_options("owner/model", "fp16", None)
    'owner/model#variant=fp16'
    """
    given = Reference.parse(model)
    return Reference(given.name, variant or given.variant, config or given.config).text


def hub_id(text: str | None) -> str | None:
    """The hub id, owner/name, that a model is named by, without options; None for a path on this machine and for "canvas"."""
    name = Reference.parse(text).name if text else ""
    return name if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists() else None
