"""The methods by the names that the command line knows."""

from expunge.methods.concept_ablation import CA as CA
from expunge.methods.dimum import DiMUM as DiMUM
from expunge.methods.erase_diff import EraseDiff as EraseDiff
from expunge.methods.esd import ESD as ESD
from expunge.methods.f_divergence import FDMU as FDMU
from expunge.methods.fmn import FMN as FMN
from expunge.methods.gradient_ascent import GradientAscent as GradientAscent
from expunge.methods.mim_mu import MiMMU as MiMMU
from expunge.methods.mim_pid import MiMPID as MiMPID
from expunge.methods.pure import PURE as PURE
from expunge.methods.random_label import RandomLabel as RandomLabel
from expunge.methods.salun import SalUn as SalUn
from expunge.methods.sdd import SDD as SDD
from expunge.methods.selective_amnesia import SA as SA
from expunge.methods.spm import SPM as SPM
from expunge.methods.uce import UCE as UCE
from expunge.objective import Method

METHODS: dict[str, type[Method]] = {
    "mim-mu": MiMMU,
    "mim-pid": MiMPID,
    "f-dmu": FDMU,
    "dimum": DiMUM,
    "pure": PURE,
    "esd": ESD,
    "sdd": SDD,
    "ca": CA,
    "salun": SalUn,
    "random-label": RandomLabel,
    "gradient-ascent": GradientAscent,
    "selective-amnesia": SA,
    "erase-diff": EraseDiff,
    "spm": SPM,
    "fmn": FMN,
    "uce": UCE,
}
