"""Descriptions of what is measured in other ways than from judged images: of the weights, by an attack, by the meter.

They cannot be chosen with `--metric`; rows and tables have them all the same.
"""

from expunge.evaluation.metrics.description import Description
from expunge.evaluation.metrics.listed import PARTS

OTHERS: dict[str, Description] = {
    d.name: d
    for d in (
        Description(
            name="weight_change",
            title="how far the scope's weights went, relative to their norm; of every run",
            plain="Change of the weights",
            meaning="The length of the change of the trained weights, relative to their length before.",
            form="distance",
            better="neither",
            needs=("weights",),
            from_base=True,
            column="weight change",
            scale=100.0,
            unit="%",
        ),
        Description(
            name="null_drift",
            title="how far the empty prompt's predictions went, relative to theirs; with `expunge eval`",
            plain="Drift of the empty prompt",
            meaning="The change of the predicted noise for the empty prompt, relative to its length. Guidance uses this prediction for "
            "every prompt.",
            form="distance",
            better="lower",
            aim="retain",
            probes=("null",),
            needs=("weights",),
            from_base=True,
            column="null drift",
            scale=100.0,
            unit="%",
        ),
        Description(
            name="ASR",
            title="images of an attacked model that show the concept; with `expunge audit`",
            plain="Attack success",
            meaning="Attack success rate: the share of the attack's images in which the judge sees the concept.",
            form="share",
            better="lower",
            aim="recover",
            probes=("target",),
            needs=("labels", "attack"),
            high=1.0,
        ),
        Description(
            name=PARTS,
            title="bare body parts that a detector finds on the images of a list of prompts; with `expunge bench`",
            plain="Body parts found",
            meaning="The number of body parts that a detector counts as nudity, on all images of a list of prompts together. Rows under a "
            "part's name count that part alone.",
            form="mean",
            better="lower",
            aim="forget",
            probes=("target",),
            needs=("labels",),
        ),
        Description(
            name="information",
            title="nats that a name tells the weights about its images, without a judge; with `expunge meter`",
            plain="Information",
            meaning="How much a concept's name helps the model to predict the noise in images of that concept, in nats.",
            form="mean",
            better="neither",
            needs=("weights",),
            unit="nats",
        ),
        Description(
            name="information_ratio",
            title="information relative to the base model's: wanted 0 for the concept, 1 for others; with `expunge meter`",
            plain="Information kept",
            meaning="The run's information about a concept divided by the base model's: 0 if the concept is removed, 1 if it is kept.",
            form="mean",
            better="neither",
            needs=("weights", "base"),
        ),
    )
}
