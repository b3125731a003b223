"""The methods by the names that the command line uses."""

from expunge.diffusion.losses import denoising_error, squared_error
from expunge.methods.base import Edit, EditPrompts, Method, Objective, Training
from expunge.methods.concept_ablation import CA
from expunge.methods.dimum import DiMUM
from expunge.methods.erase_diff import EraseDiff
from expunge.methods.esd import ESD
from expunge.methods.f_divergence import FDMU
from expunge.methods.fmn import FMN
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.mim_mu import MiMMU
from expunge.methods.mim_pid import MiMPID
from expunge.methods.pure import PURE
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.methods.sdd import SDD
from expunge.methods.selective_amnesia import SA
from expunge.methods.spm import SPM
from expunge.methods.supplant import Supplant
from expunge.methods.uce import UCE
from expunge.models.scopes import SCOPES, Scope

__all__ = [
    "CA",
    "ESD",
    "FDMU",
    "FMN",
    "METHODS",
    "PURE",
    "SA",
    "SCOPES",
    "SDD",
    "SPM",
    "UCE",
    "DiMUM",
    "Edit",
    "EditPrompts",
    "EraseDiff",
    "GradientAscent",
    "Method",
    "MiMMU",
    "MiMPID",
    "Objective",
    "RandomLabel",
    "SalUn",
    "Scope",
    "Supplant",
    "Training",
    "denoising_error",
    "squared_error",
]  # fmt: skip

METHODS: dict[str, type[Method]] = {
    "mim-mu": MiMMU,
    "mim-pid": MiMPID,
    "f-dmu": FDMU,
    "dimum": DiMUM,
    "pure": PURE,
    "supplant": Supplant,
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
"""Each registered method by its name."""
