"""Peak memory of unlearning against one forward and backward of the same network: `python benchmarks/memory.py`.

The pass holds as many points as a step of MiM-MU does: its batch, and the same again under the prompts that it is locked to.
Each is a process of its own on a U-Net large enough that tensors, not libraries, fill the memory; what a process holds before
any work (libraries, weights) is subtracted from both.
"""

import argparse
import resource
import subprocess
import sys

import torch
from diffusers import UNet2DConditionModel

BATCH = 8
POINTS = 2 * BATCH
"""That a step sends through the network with gradient."""


def network() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(64, 128, 256),
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=8,
    )


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forward_backward() -> None:
    net = network()
    net.requires_grad_(False)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(".attn2." in name)
    before = peak()
    for _ in range(3):
        out = net(torch.randn(POINTS, 4, 32, 32), torch.full((POINTS,), 500), torch.randn(POINTS, 12, 96)).sample
        out.square().mean().backward()
        net.zero_grad(set_to_none=True)
    print(peak() - before)


def unlearning() -> None:
    import tempfile
    from pathlib import Path

    from expunge.canvas.pipeline import assemble
    from expunge.concepts.concept import Concept
    from expunge.concepts.vocabulary import Vocabulary
    from expunge.models.loading import load
    from expunge.models.stable_diffusion import StableDiffusion
    from expunge.runs.unlearn import unlearn
    from expunge.storage.cache import Store

    parts = load("canvas").pipeline
    model = StableDiffusion(assemble(parts.vae, parts.text_encoder, parts.tokenizer, network()))
    concept = Concept.find("neon", Vocabulary.canvas())
    training = {"steps": 6, "batch_size": BATCH, "pictures": 8, "points": 48}
    with tempfile.TemporaryDirectory() as folder:
        model.encode([p.prompt for p in concept.forget()])
        before = peak()
        unlearn(model, concept, training=training, out=Path(folder) / "run", cache=Store(Path(folder) / "store"))
        print(peak() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["forward-backward", "unlearning"])
    what = parser.parse_args().what
    if what:
        return {"forward-backward": forward_backward, "unlearning": unlearning}[what]()
    measured = {}
    for name in ("forward-backward", "unlearning"):
        out = subprocess.run([sys.executable, "-W", "ignore", __file__, name], capture_output=True, text=True, check=True)
        measured[name] = float(out.stdout.split()[-1])
        print(f"{name}: {measured[name]:.0f} MiB above what the process held before")
    print(f"ratio: {measured['unlearning'] / measured['forward-backward']:.2f}")
    return None


if __name__ == "__main__":
    main()
