"""Judges: networks that say what an image shows. One file each; `load_judge` finds them by name.

A judge changes nothing and renders nothing; which concept it is asked for is an argument of each call.
"""

from expunge.evaluation.judges.base import NOTHING, Images, Judge, Judgement, judge_chunks, judge_images
from expunge.evaluation.judges.calibrated import Calibration, Scorer, ThresholdJudge, calibrate_all, on_base_model
from expunge.evaluation.judges.canvas import CanvasJudge
from expunge.evaluation.judges.classifier import ClassifierJudge
from expunge.evaluation.judges.clip import CLIPJudge
from expunge.evaluation.judges.loading import BY_NAME, CANVAS_JUDGES, EMBEDDED, judges_for, load_judge
from expunge.evaluation.judges.nudenet import NudeNetJudge
