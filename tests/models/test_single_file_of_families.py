"""Single-file checkpoints of Stable Diffusion 2, XL and 3: what is written is read back by diffusers, equal tensor by tensor."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from families import stable_diffusion_2, stable_diffusion_3, stable_diffusion_xl
from families.original_names import original_name, sd3_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expunge.models.loading import load
from expunge.runs.export import merge, write_single_file
from expunge.runs.unlearn import unlearn


def unet_checkpoint(network: nn.Module) -> dict[str, Tensor]:
    return {original_name(name): value.detach() for name, value in network.named_parameters()}


FAMILIES = {
    "sd2": (stable_diffusion_2, unet_checkpoint, UNet2DConditionModel),
    "sdxl": (stable_diffusion_xl, unet_checkpoint, UNet2DConditionModel),
    "sd3": (stable_diffusion_3, sd3_checkpoint, SD3Transformer2DModel),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_read_back(family: str, tmp_path: Path):
    """By diffusers, and by expunge as a model: the file has the network, and the text encoders come from the configuration's folder."""
    module: ModuleType
    checkpoint: Callable[[nn.Module], dict[str, Tensor]]
    module, checkpoint, kind = FAMILIES[family]
    pipeline = module.pipeline()
    pipeline.save_pretrained(base := tmp_path / "model")
    part = "transformer" if hasattr(pipeline, "transformer") else "unet"
    network = getattr(pipeline, part)
    original = {name: value.half().contiguous() for name, value in checkpoint(network).items()}
    save_file(original | {"other.weight": torch.ones(3)}, tmp_path / "original.safetensors")
    made = unlearn(base, tiny.concept(), "esd", variant="full", training=tiny.PLAIN, out=tmp_path / "run", device="cpu")
    file = write_single_file(base, made, tmp_path / "changed.safetensors", tmp_path / "original.safetensors")
    assert load_file(file).keys() == original.keys() | {"other.weight"}

    delta, before = made.delta(), dict(network.named_parameters())
    assert len(delta) > 0.9 * len(before)
    wanted = {name: delta.get(name, value).half().float() for name, value in before.items()}
    read = dict(kind.from_single_file(file, config=str(base), subfolder=part, local_files_only=True).named_parameters())
    assert read.keys() == wanted.keys()
    assert [name for name, value in read.items() if not torch.equal(value, wanted[name])] == []

    merged, opened = load(merge(base, made, tmp_path / "merged", dtype="fp16")), load(f"{file}#config={base}")
    assert [n for n, p in opened.network.named_parameters() if not torch.equal(p.float(), merged.network.get_parameter(n).float())] == []
    assert (type(opened), opened.path.predicts) == (type(merged), merged.path.predicts)
