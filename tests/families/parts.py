"""What tiny pipelines are made of."""

import re
from functools import cache

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.pipelines.flux2.pipeline_flux2 import SYSTEM_MESSAGE
from tiny import tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPTextConfig, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM, T5Config, T5EncoderModel, T5Tokenizer

from expunge.canvas.prompts import VOCABULARY
from expunge.models.quiet import quiet

T5_LENGTH = 14
QWEN_TEMPLATE = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the objects and background"
)


def alive(network: nn.Module) -> nn.Module:
    """Fills what diffusers initialises with zeros, or a random network would not depend on its prompt."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim >= 2 and not parameter.any():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    return network.eval()


def clip_config(activation: str = "quick_gelu") -> CLIPTextConfig:
    words = tokenizer()
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=37,
        projection_dim=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=words.model_max_length,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        hidden_act=activation,
    )


def t5_tokenizer(length: int = T5_LENGTH) -> T5Tokenizer:
    """Every word of the canvas in one piece, and no letters: another word is unknown."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -9.0), *((f"▁{word}", -2.0) for word in VOCABULARY)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_pairs(space: str, words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges that make each of the words one token behind a space."""
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        whole = space
        for letter in word:
            merges.setdefault((whole, letter))
            whole += letter
    return list(dict.fromkeys(a + b for a, b in merges)), list(merges)


@cache
def chat_tokenizer() -> Qwen2Tokenizer:
    """Byte-level, with a chat template. Every word of the canvas, and of the pipelines' templates, is one token behind a space."""
    words = {*VOCABULARY, *re.findall("[A-Za-z]+", SYSTEM_MESSAGE + QWEN_TEMPLATE)}
    merged, merges = byte_pairs("Ġ", sorted(words))
    vocabulary = [*sorted(ByteLevel.alphabet()), *merged]
    ids = {token: i for i, token in enumerate(dict.fromkeys([*vocabulary, "<|endoftext|>", "<|im_start|>", "<|im_end|>"]))}
    made = Qwen2Tokenizer(vocab=ids, merges=merges, model_max_length=1024)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = CHAT
    return made


def qwen3(width: int, layers: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(chat_tokenizer()),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
    )
    return Qwen3ForCausalLM(config).eval()


def t5_encoder(width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5EncoderModel(config).eval()


def autoencoder(channels: int, scale: float, shift: float | None = None, has_quant_conv: bool = True) -> AutoencoderKL:
    """Of images twice as large as their latents along each side."""
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=has_quant_conv,
        use_post_quant_conv=has_quant_conv,
    )
    return vae.eval()


def assembled(kind: type[DiffusionPipeline], **parts: object) -> DiffusionPipeline:
    """A pipeline of these parts, which shows no progress."""
    with quiet():
        pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
