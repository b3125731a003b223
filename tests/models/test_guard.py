"""The check at load: what parameters and configuration do not show is refused in one line, before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from peft import LoraConfig
from raising import raises_error

import expunge
from expunge.models.guard import checked
from expunge.models.loading import load
from expunge.models.unusual import forward_of


class OwnProcessor(AttnProcessor):
    """Outside of diffusers, so that nobody knows what it does."""


class Louder(Transformer2DModel):
    """Another class with the same parameters, as token merging puts in place."""

    def forward(self, *given: Any, **named: Any) -> Any:
        return (super().forward(*given, **named)[0] * 1.1,)


class BrokenScheduler(DDIMScheduler):
    def step(self, *given: Any, **named: Any) -> Any:
        raise AssertionError("the library's own words.\nOn two lines")


def _attention(pipeline: Any) -> Any:
    return pipeline.unet.get_submodule("down_blocks.1.attentions.0.transformer_blocks.0.attn2")


def _add_lora(pipeline: Any) -> None:
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False), adapter_name="x")


def _add_lora_to_words(pipeline: Any) -> None:
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), adapter_name="x")


def _add_ip_adapter(pipeline: Any) -> None:
    width, keys, number = pipeline.unet.config.cross_attention_dim, {}, 1
    for name in pipeline.unet.attn_processors:
        if name.endswith("attn2.processor"):
            out = pipeline.unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            keys |= {f"{number}.to_{part}_ip.weight": torch.randn(out, width) for part in "kv"}
            number += 2
    projection = {"proj.weight": torch.randn(4 * width, 16), "proj.bias": torch.zeros(4 * width)}
    norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    weights = {"image_proj": projection | norm, "ip_adapter": keys}
    pipeline.load_ip_adapter(weights, subfolder=None, weight_name=None, image_encoder_folder=None)


def _change_class(pipeline: Any) -> None:
    pipeline.unet.down_blocks[1].attentions[0].__class__ = Louder


def _patch(pipeline: Any) -> None:
    plain = pipeline.unet.forward
    pipeline.unet.forward = lambda *given, **named: plain(*given, **named)


UNUSUAL: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "a LoRA": (_add_lora, "adapter", "fuse_lora"),
    "a LoRA of the text encoder": (_add_lora_to_words, "adapter", "unload_lora_weights"),
    "an IP-Adapter": (_add_ip_adapter, "ip-adapter", "unload_ip_adapter"),
    "a hook": (lambda p: p.unet.conv_out.register_forward_hook(lambda *a: a[-1] * 2), "forward-hook", "remove"),
    "a hook before": (lambda p: p.vae.decoder.register_forward_pre_hook(lambda m, given: given), "forward-hook", "remove"),
    "offloading": (lambda p: add_hook_to_module(p.text_encoder, ModelHook()), "offloaded", "remove_all_hooks"),
    "a patched forward": (_patch, "patched-forward", "again"),
    "FreeU": (lambda p: p.enable_freeu(0.9, 0.2, 1.2, 1.4), "freeu", "disable_freeu"),
    "an own processor": (lambda p: _attention(p).set_processor(OwnProcessor()), "custom-processor", "set_default_attn_processor"),
    "fused projections": (lambda p: p.unet.fuse_qkv_projections(), "other-parameters", "fused"),
    "another class": (_change_class, "other-forward", "again"),
}


@pytest.mark.parametrize(("change", "rule", "hint"), UNUSUAL.values(), ids=UNUSUAL.keys())
def test_a_changed_pipeline_is_refused_with_the_remedy(change: Callable[[Any], object], rule: str, hint: str):
    pipeline = tiny.pipeline()
    change(pipeline)
    with raises_error(rule, hint=hint):
        load(pipeline)


def test_a_refused_pipeline_leaves_no_run(tmp_path: Path):
    pipeline = tiny.pipeline()
    _add_lora(pipeline)
    with raises_error("adapter"):
        expunge.unlearn(pipeline, tiny.concept(), "uce", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_lora_that_was_fused_and_unloaded_is_a_plain_pipeline():
    pipeline = tiny.pipeline()
    _add_lora(pipeline)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    assert load(pipeline).fingerprint != tiny.model().fingerprint


def test_what_changes_rounding_alone_is_another_key():
    plain, sliced, tiled = tiny.pipeline(), tiny.pipeline(), tiny.pipeline()
    sliced.enable_attention_slicing(1)
    tiled.vae.enable_tiling()
    keys = [load(pipeline).rendered_by for pipeline in (plain, sliced, tiled)]
    assert keys[0] == tiny.model().rendered_by
    assert [key == keys[0] for key in keys] == [True, False, False]
    assert {key["forward"]["network"] for key in keys} == {"diffusers.models.unets.unet_2d_condition.UNet2DConditionModel"}


def test_the_key_has_the_class_of_the_network():
    class Other(torch.nn.Module):
        pass

    assert forward_of(Other(), {})["network"].endswith("test_the_key_has_the_class_of_the_network.<locals>.Other")


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_model_that_is_not_finite_is_refused_at_load(part: str):
    """The autoencoder in half precision, where it overflows."""
    pipeline = tiny.pipeline()
    last = pipeline.unet.conv_out if part == "unet" else pipeline.vae.decoder.conv_out
    last.bias.data.fill_(torch.nan)
    with raises_error("not-finite", 1):
        load(pipeline.to(torch.bfloat16) if part == "vae" else pipeline)


def test_an_error_of_a_library_becomes_one_line():
    pipeline = tiny.pipeline()
    pipeline.scheduler = BrokenScheduler.from_config(pipeline.scheduler.config)
    with raises_error("unusable-model", "in memory", "scheduler") as caught:
        load(pipeline)
    assert "the library's own words. On two lines" in str(caught.value)


def test_the_check_leaves_everything_as_it_was():
    pipeline = tiny.pipeline()
    pipeline.unet.train()
    before, state = {n: p.clone() for n, p in pipeline.unet.state_dict().items()}, torch.get_rng_state()
    load(pipeline)
    assert pipeline.unet.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[n]) for n, p in pipeline.unet.state_dict().items())
    assert len(pipeline.scheduler.timesteps) == pipeline.scheduler.config.num_train_timesteps


def test_the_check_takes_few_small_forwards(monkeypatch: pytest.MonkeyPatch):
    model, shapes = tiny.model(), []
    monkeypatch.setattr(type(model), "latent_shape", property(lambda self: (4, 64, 48)))
    handle = model.network.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    checked(model)
    handle.remove()
    assert shapes == [(1, 4, 8, 8)] * 2
