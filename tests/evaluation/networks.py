"""Networks so small that a test can make them, as folders and files."""

from pathlib import Path

import tiny
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, Dinov2Config, Dinov2Model, ViTImageProcessor


def clip(folder: Path) -> str:
    """A CLIP with the canvas's tokenizer."""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    text = {"vocab_size": 400, "max_position_embeddings": 12, "eos_token_id": 356, "bos_token_id": 355}
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=small | text, vision_config=small | vision, projection_dim=8)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def dinov2(folder: Path) -> str:
    torch.manual_seed(1)
    Dinov2Model(
        Dinov2Config(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=32, patch_size=16)
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


class Inception(torch.nn.Module):
    """Called as StyleGAN's export of Inception is."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.conv = torch.nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, images, return_features: bool = False):
        found = self.conv((images.float() - 128) / 128).mean((2, 3))
        return found if return_features else found.softmax(1)


class Apart(torch.nn.Module):
    """The mean squared difference, in the form of LPIPS."""

    def forward(self, x, y):
        return (x - y).square().mean((1, 2, 3), keepdim=True)


def scripted(net: torch.nn.Module, file: Path) -> str:
    torch.jit.script(net).save(str(file))
    return str(file)
