"""The methods by the names that the command line knows."""

from expunge.methods.esd import ESD as ESD
from expunge.methods.mim_mu import MiMMU as MiMMU
from expunge.methods.uce import UCE as UCE
from expunge.objective import Method

METHODS: dict[str, type[Method]] = {
    "mim-mu": MiMMU,
    "esd": ESD,
    "uce": UCE,
}
