"""DiT: a class-conditional transformer on latents (ImageNet)."""

from collections.abc import Callable
from typing import Any, ClassVar

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.class_conditional import ClassConditional
from expunge.models.labels import inverted, names_of
from expunge.models.sampling import Sampler


class DiT(ClassConditional):
    """A transformer that reads a class by adaptive layer norm. It predicts the noise and a variance, which its pipeline drops."""

    family = "dit"
    pipeline_class = "DiTPipeline"
    parts = ("transformer", "vae", "scheduler")
    network_part = "transformer"
    network_class = "DiTTransformer2DModel"
    scopes: ClassVar = {
        "xattn-kv": r"\.class_embedder\.",
        "entrance": r"\.class_embedder\.",
        "xattn": r"\.class_embedder\.|\.norm1\.linear\.|^proj_out_1\.",
        "non-xattn": r"^(?!.*\.class_embedder\.|.*\.norm1\.linear\.|proj_out_1\.)",
        "transformer": r"^transformer_blocks\.",
        "full": r"",
    }
    tables = r"\.class_embedder\.embedding_table\.weight$"

    @property
    def sampler(self) -> Sampler:
        return Sampler(50, 4.0)

    def own_labels(self) -> tuple[str, ...]:
        return names_of(inverted(self.pipeline.labels), self.pipeline.transformer.config.num_embeds_ada_norm)

    def check(self) -> None:
        rows = next(len(p) for name, p in self.network.named_parameters() if name.endswith("class_embedder.embedding_table.weight"))
        self.refuse_labels(rows, self.labels, "a DiT that was trained with class dropout")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.pipeline.transformer.config
        return (config.in_channels, config.sample_size, config.sample_size)

    @property
    def size(self) -> int:
        return self.latent_shape[1] * 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        return network(x_t, timestep=t, class_labels=cond.extra["label"], return_dict=False)[0][:, : x_t.shape[1]]
