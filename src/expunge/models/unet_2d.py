"""Class-conditional U-Nets on pixels, as the unlearning papers train them on CIFAR-10, and the embedded model of handwritten digits."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from expunge.diffusion.types import Cond, Latents, Times
from expunge.errors import ExpungeError
from expunge.models.autoencoder import Images
from expunge.models.class_conditional import ClassConditional
from expunge.models.labels import unet_labels
from expunge.models.sampling import Sampler


class UNet2D(ClassConditional):
    """A U-Net on the pixels themselves, which adds a row of a table of classes to the embedding of the time.

    Images with one channel are given out in three equal ones, and the mean of three is read.
    """

    family = "unet-2d"
    pipeline_class = "DDPMPipeline"
    parts = ("unet", "scheduler")
    network_part = "unet"
    network_class = "UNet2DModel"
    scopes: ClassVar = {
        "xattn-kv": r"^class_embedding\.",
        "entrance": r"^class_embedding\.",
        "xattn": r"^class_embedding\.|\.time_emb_proj\.",
        "transformer": r"^(down|mid|up)_block",
        "non-xattn": r"^(?!class_embedding\.|.*\.time_emb_proj\.)",
        "full": r"",
    }
    tables = r"^class_embedding\.weight$"

    @property
    def sampler(self) -> Sampler:
        return Sampler(50, 1.0)

    def own_labels(self) -> tuple[str, ...]:
        return unet_labels(self.pipeline.unet.config)

    def check(self) -> None:
        config: Any = self.pipeline.unet.config
        if not hasattr(self.pipeline.unet, "class_embedding") or config.class_embed_type or not config.num_class_embeds:
            raise ExpungeError(
                f"The network of {self.name} has no table of classes: it samples images of everything that it was trained on.",
                rule="unsupported-network",
                value=self.name,
                hint="Try a UNet2DModel with num_class_embeds.",
            )
        self.refuse_labels(
            config.num_class_embeds,
            self.labels,
            "to name the classes in `id2label` of unet/config.json, one fewer than rows",
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.pipeline.unet.config
        return (config.in_channels, config.sample_size, config.sample_size)

    @property
    def size(self) -> int:
        return self.latent_shape[1]

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        return network(x_t, t, class_labels=cond.extra["label"], return_dict=False)[0][:, : x_t.shape[1]]

    def decode(self, latents: Latents) -> Images:
        pixels = ((latents / 2 + 0.5).clamp(0, 1) * 255).round().to("cpu", torch.uint8)
        return pixels.expand(-1, 3, -1, -1).contiguous() if pixels.shape[1] == 1 else pixels

    def encode_images(self, images: Images) -> Latents:
        pixels = images.float() / 127.5 - 1
        return pixels.mean(1, keepdim=True) if self.latent_shape[0] == 1 else pixels
