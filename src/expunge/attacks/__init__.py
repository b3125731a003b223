"""The attacks, by name. `ATTACKS[name]` is a frozen dataclass whose fields are its settings."""

from expunge.attacks.attack import Attack as Attack
from expunge.attacks.attack import Attacked as Attacked
from expunge.attacks.attack import Inapplicable as Inapplicable
from expunge.attacks.attack import Victim as Victim
from expunge.attacks.few_shot import FewShot as FewShot
from expunge.attacks.inversion import Inversion as Inversion
from expunge.attacks.prompt_search import P4D as P4D
from expunge.attacks.prompt_search import PromptSearch as PromptSearch
from expunge.attacks.relearn import Relearn as Relearn
from expunge.attacks.ring_a_bell import RingABell as RingABell
from expunge.attacks.weight_space import Noise as Noise
from expunge.attacks.weight_space import Prune as Prune
from expunge.attacks.weight_space import Quantise as Quantise
from expunge.attacks.wording import Wording as Wording

ATTACKS: dict[str, type[Attack]] = {
    "relearn": Relearn,
    "few-shot": FewShot,
    "quantise": Quantise,
    "prune": Prune,
    "noise": Noise,
    "inversion": Inversion,
    "prompt-search": PromptSearch,
    "p4d": P4D,
    "ring-a-bell": RingABell,
    "wording": Wording,
}
