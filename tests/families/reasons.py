"""Why a family does not pass a check: the rule of the error that it is refused with."""

from families import EVERY

WHY = {
    "no-null-condition": "reads the prediction without a prompt, which means nothing in a distilled model",
    "several-text-encoders": "an attack on words needs one text encoder, and there are several or none",
    "no-lora-loader": "diffusers' own pipeline loads no LoRA",
    "other-text-encoder": "an attack on words needs the last states of the text encoder, and the network reads them masked, or others",
}
"""By the rule."""

_SEVERAL = ("sdxl", "flux-1", "sd3")
_NONE = ("dit", "unet-2d")

REASONS: dict[tuple[str, str], str] = {
    **{(family, "esd"): "no-null-condition" for family in ("flux-1-schnell", "flux-2-klein")},
    **{(family, "inversion"): "other-text-encoder" for family in EVERY if not family.startswith("sd2")},
    **{(family, "inversion"): "several-text-encoders" for family in EVERY if family.startswith((*_SEVERAL, *_NONE))},
    **{(family, "LoRA"): "no-lora-loader" for family in ("pixart-sigma", *_NONE)},
}
"""By family and check."""
