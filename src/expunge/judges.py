"""Judges, as a public module: networks that say what an image shows, their settings, and what a judge of one's own is made of.

`load_judge` finds one by name, as `--judge` does. A judge of your own is a `JudgeSettings` whose `load` gives a `Judge`; with a `Scorer`
and a `ThresholdJudge` the threshold is calibrated on the base model's images.
"""

from expunge.evaluation.error_rates import ErrorRates, Rate, error_rates
from expunge.evaluation.judge_settings import JUDGES, VLM, JudgeSettings, NudeNet, Reference
from expunge.evaluation.judges import NOTHING, Calibration, Judge, Judgement, Scorer, ThresholdJudge, judge_images, load_judge

__all__ = [
    "JUDGES",
    "NOTHING",
    "VLM",
    "Calibration",
    "ErrorRates",
    "Judge",
    "JudgeSettings",
    "Judgement",
    "NudeNet",
    "Rate",
    "Reference",
    "Scorer",
    "ThresholdJudge",
    "error_rates",
    "judge_images",
    "load_judge",
]
