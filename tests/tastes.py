"""A vocabulary small enough to write its prompts out: three tastes and two dishes."""

import tomllib

from expunge.concepts.vocabulary import Vocabulary

TOML = """
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

TASTES = Vocabulary.from_tables(tomllib.loads(TOML))
