"""The tensors of tiny networks as the original code of Stable Diffusion names and fuses them, written down by hand."""

import torch
from torch import Tensor, nn

BLOCKS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0", "conv_out": "out.2", "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op", "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1", "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2", "up_blocks.0.resnets.0": "output_blocks.0.0", "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv", "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
}  # fmt: skip
"""The layers of a tiny U-Net, and their names in the original code."""

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
"""The same inside a residual block."""

UNET = "model.diffusion_model."


def original_layer(name: str) -> str:
    """A layer of the U-Net, or a parameter of one, by its original name."""
    layer = max((key for key in BLOCKS if f"{name}.".startswith(f"{key}.")), key=len)
    inside = name.removeprefix(layer)
    if ".resnets." in f".{layer}" and inside:
        first, *rest = inside[1:].split(".")
        inside = ".".join(["", RESNET[first], *rest])
    return BLOCKS[layer] + inside


def original_name(name: str) -> str:
    """The name of a parameter of the U-Net in a checkpoint."""
    return UNET + original_layer(name)


SD3 = {
    "pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder", "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0", "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
}  # fmt: skip
IMAGE = {
    "attn.norm_q": "attn.ln_q", "attn.norm_k": "attn.ln_k", "attn.to_out.0": "attn.proj", "attn2.norm_q": "attn2.ln_q",
    "attn2.norm_k": "attn2.ln_k", "attn2.to_out.0": "attn2.proj", "norm1.linear": "adaLN_modulation.1", "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}  # fmt: skip
TEXT = {
    "attn.norm_added_q": "attn.ln_q", "attn.norm_added_k": "attn.ln_k", "attn.to_add_out": "attn.proj",
    "norm1_context.linear": "adaLN_modulation.1", "ff_context.net.0.proj": "mlp.fc1", "ff_context.net.2": "mlp.fc2",
}  # fmt: skip
FUSED = {
    ("x_block", "attn"): ("attn.to_q", "attn.to_k", "attn.to_v"), ("x_block", "attn2"): ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    ("context_block", "attn"): ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}  # fmt: skip


def sd3_checkpoint(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a transformer of Stable Diffusion 3, as its checkpoints have them: keys, queries and values in one matrix, and scale
    and shift of the last norms in the other order."""
    ours = {name: value.detach() for name, value in network.state_dict().items()}
    blocks = 1 + max(int(name.split(".")[1]) for name in ours if name.startswith("transformer_blocks."))
    found = {"pos_embed": ours.pop("pos_embed.pos_embed")}
    names = dict(SD3)
    for i in range(blocks):
        block, theirs = f"transformer_blocks.{i}", f"joint_blocks.{i}"
        names |= {f"{block}.{a}": f"{theirs}.x_block.{b}" for a, b in IMAGE.items()}
        names |= {f"{block}.{a}": f"{theirs}.context_block.{b}" for a, b in TEXT.items()}
        for (side, attention), parts in FUSED.items():
            for kind in ("weight", "bias"):
                if f"{block}.{parts[0]}.{kind}" in ours:
                    joined = torch.cat([ours.pop(f"{block}.{part}.{kind}") for part in parts])
                    found[f"{theirs}.{side}.{attention}.qkv.{kind}"] = joined
    swapped = ("norm_out.linear", f"transformer_blocks.{blocks - 1}.norm1_context.linear")
    for name, value in ours.items():
        layer, _, kind = name.rpartition(".")
        scale_first = torch.cat(value.chunk(2)[::-1]) if layer in swapped else value
        found[f"{names[layer]}.{kind}"] = scale_first
    return {UNET + name: value for name, value in found.items()}
