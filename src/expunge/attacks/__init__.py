"""The attacks, by name. `ATTACKS[name]` is a frozen dataclass whose fields are its settings."""

from expunge.attacks.attack import Attack as Attack
from expunge.attacks.attack import Attacked as Attacked
from expunge.attacks.attack import Victim as Victim

ATTACKS: dict[str, type[Attack]] = {}
