"""LoRA files of other programs for SDXL and Stable Diffusion 3: every key lands."""

import pytest
import tiny
import torch
from families import stable_diffusion_3, stable_diffusion_xl
from families.original_names import original_layer

from expunge.models.lora_reading import with_lora
from expunge.runs.adopt import adopt
from expunge.runs.export import write_lora
from expunge.runs.unlearn import unlearn


def sgm(layer: str) -> str:
    """As kohya's programs call it for SDXL alone: by the original code."""
    return underscored(original_layer(layer))


def underscored(layer: str) -> str:
    return layer.replace(".", "_")


def products(model, layers: list[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """B and A of rank 2 for each layer."""
    generator, found = torch.Generator().manual_seed(5), {}
    for layer in layers:
        shape = model.network.get_parameter(f"{layer}.weight").shape
        b = torch.randn(shape[0], 2, *(1,) * (len(shape) - 2), generator=generator) / 10
        found[layer] = b, torch.randn(2, *shape[1:], generator=generator) / 10
    return found


def check_landed(model, tensors, wanted, scale: float) -> None:
    """Every product is added to its layer, and nothing else."""
    found = with_lora(model, tensors, {}, "file")
    assert found.keys() == {f"{layer}.weight" for layer in wanted}
    for layer, (b, a) in wanted.items():
        before = model.network.get_parameter(f"{layer}.weight").detach()
        change = scale * (b.flatten(1) @ a.flatten(1)).reshape(before.shape)
        torch.testing.assert_close(found[f"{layer}.weight"], before + change, rtol=0, atol=1e-6)


def matrices_of(model) -> list[str]:
    return [n.removesuffix(".weight") for n, p in model.network.named_parameters() if n.endswith(".weight") and p.ndim in (2, 4)]


@pytest.mark.parametrize("naming", [sgm, underscored])
def test_every_key_of_kohyas_lora_of_sdxl_lands(naming):
    """By the names of blocks in the original code, as kohya's programs write them for SDXL alone, and by those of diffusers."""
    model = stable_diffusion_xl.model()
    wanted = products(model, matrices_of(model))
    tensors = {}
    for layer, (b, a) in wanted.items():
        stem = f"lora_unet_{naming(layer)}"
        tensors |= {f"{stem}.lora_up.weight": b, f"{stem}.lora_down.weight": a, f"{stem}.alpha": torch.tensor(1.0)}
    check_landed(model, tensors, wanted, 0.5)


def test_blocks_by_both_names_in_one_file_land_or_are_named():
    model = stable_diffusion_xl.model()
    wanted = products(model, ["mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "down_blocks.1.attentions.0.proj_in"])
    tensors = {}
    for (b, a), naming, layer in zip(wanted.values(), (sgm, underscored), wanted, strict=True):
        tensors |= {f"lora_unet_{naming(layer)}.lora_up.weight": b, f"lora_unet_{naming(layer)}.lora_down.weight": a}
    check_landed(model, tensors, wanted, 1.0)


@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model.", "base_model.model.", ""])
def test_every_key_of_a_lora_of_sd3_lands(prefix: str):
    model = stable_diffusion_3.model()
    wanted = products(model, [layer for layer in matrices_of(model) if not layer.startswith("pos_embed.")])
    tensors = {}
    for layer, (b, a) in wanted.items():
        tensors |= {f"{prefix}{layer}.lora_B.weight": b, f"{prefix}{layer}.lora_A.weight": a}
    check_landed(model, tensors, wanted, 1.0)


@pytest.mark.parametrize("module", [stable_diffusion_xl, stable_diffusion_3])
def test_a_lora_file_of_a_run_is_adopted_as_it_was_written(module, tmp_path):
    module.pipeline().save_pretrained(base := tmp_path / "model")
    made = unlearn(base, tiny.concept(), "mim-mu", variant="xattn-lora", training=tiny.PLAIN, out=tmp_path / "run", device="cpu")
    write_lora(base, made, tmp_path / "lora.safetensors")
    again, before = adopt(base, tmp_path / "lora.safetensors", tiny.concept(), out=tmp_path / "again", device="cpu"), module.model().network
    assert again.delta().keys() == {n for n, v in made.delta().items() if not torch.equal(v, before.get_parameter(n))}
    for name, value in again.delta().items():
        torch.testing.assert_close(value, made.delta()[name], rtol=0, atol=1e-5)
