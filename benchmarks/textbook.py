"""One step of each method as its released code takes it: the same calls of the same networks, in our words.

Sources: the repositories that the papers name. What a released loop does at every step is done here at every step: it encodes prompts and
images anew, samples a new partial trajectory, and calls the teacher once for each prompt. Where a release leaves the weights that it does
not train without `requires_grad_(False)`, the backward pass here computes their gradients too (ESD, SDD).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from expunge.diffusion.types import Cond
from expunge.models.base import DiffusionModel
from expunge.models.scopes import SCOPES, Scope, matching
from expunge.training.state import TrainState

Step = Callable[[float], None]
"""A step whose partial trajectory goes through this share of the sampler's steps."""


@dataclass
class Setting:
    """What the loops have in common."""

    model: DiffusionModel
    prompt: str
    anchor: str
    batch: int
    sampling: int = 50
    guidance: float = 3.0
    images: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(self.batch, 3, self.model.size, self.model.size, generator=generator) * 2 - 1
        self.scheduler = DDIMScheduler.from_config(self.model.pipeline.scheduler.config)
        self.scheduler.set_timesteps(self.sampling)

    def encode(self, prompt: str) -> Tensor:
        """The text encoder is called anew."""
        with torch.no_grad():
            return self.model.encode_rows([prompt]).states.expand(self.batch, -1, -1)

    def latents(self) -> Tensor:
        """The images through the autoencoder, anew."""
        vae = self.model.pipeline.vae
        with torch.no_grad():
            return vae.encode(self.images).latent_dist.sample() * vae.config.scaling_factor

    def noised(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noise, t = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),))
        return self.scheduler.add_noise(latents, noise, t), t, noise

    @torch.no_grad()
    def visited(self, net: Callable[..., Tensor], share: float, cond: Tensor, null: Tensor) -> tuple[Tensor, Tensor]:
        """Where guided sampling stands after a share of its steps."""
        x = torch.randn(self.batch, *self.model.latent_shape)
        steps = int(share * self.sampling)
        for t in self.scheduler.timesteps[:steps]:
            without, given = net(torch.cat([x, x]), t.expand(2 * self.batch), torch.cat([null, cond])).chunk(2)
            x = self.scheduler.step(without + self.guidance * (given - without), t, x).prev_sample
        return x, self.scheduler.timesteps[steps].expand(self.batch)


def esd(s: Setting) -> Step:
    """Samples with the student, calls the teacher once for each prompt."""
    student, teacher = _net(s, None), _net(s, "none")
    adam = torch.optim.Adam(matching(student, s.model.scopes["xattn"]).values(), lr=5e-5)

    def step(share: float) -> None:
        cond, null = s.encode(s.prompt), s.encode("")
        x, t = s.visited(_call(student), share, cond, null)
        with torch.no_grad():
            given, without = _call(teacher)(x, t, cond), _call(teacher)(x, t, null)
        adam.zero_grad()
        (_call(student)(x, t, cond) - (without - (given - without))).square().mean().backward()
        adam.step()

    return step


def sdd(s: Setting) -> Step:
    """Samples with the moving average, which is kept of all weights."""
    student, mean = _net(s, None), _net(s, "none")
    adam = torch.optim.AdamW(matching(student, s.model.scopes["xattn"]).values(), lr=1e-5, weight_decay=1e-4)

    def step(share: float) -> None:
        cond, null = s.encode(s.prompt), s.encode("")
        z, t = s.visited(_call(mean), share, cond, null)
        with torch.no_grad():
            goal = _call(student)(z, t, null)
        adam.zero_grad()
        (_call(student)(z, t, cond) - goal).square().mean().backward()
        adam.step()
        with torch.no_grad():
            for kept, new in zip(mean.parameters(), student.parameters(), strict=True):
                kept.lerp_(new, 1 - 0.999)

    return step


def ca(s: Setting) -> Step:
    return _on_anchor_images(s, frozen_goal=False)


def f_dmu(s: Setting) -> Step:
    return _on_anchor_images(s, frozen_goal=True)


def _on_anchor_images(s: Setting, frozen_goal: bool) -> Step:
    student = _net(s, "xattn-kv")
    teacher = _net(s, "none") if frozen_goal else student
    adam = torch.optim.AdamW(matching(student, s.model.scopes["xattn-kv"]).values(), lr=1.6e-5)

    def step(share: float) -> None:
        x, t, _ = s.noised(s.latents())
        cond, anchor = s.encode(s.prompt), s.encode(s.anchor)
        prediction = _call(student)(x, t, cond)
        with torch.no_grad():
            goal = _call(teacher)(x, t, anchor)
        m = (prediction - goal).square().flatten(1).sum(1)
        adam.zero_grad()
        ((torch.exp(-m.detach() / 8) * m) if frozen_goal else m).mean().backward()
        adam.step()

    return step


def salun(s: Setting) -> Step:
    """The wrong label's prediction is computed with its graph, which is then dropped."""
    student = _net(s, "xattn")
    trained = matching(student, s.model.scopes["xattn"])
    masks = {name: torch.rand_like(p) > 0.5 for name, p in trained.items()}
    adam = torch.optim.Adam(trained.values(), lr=1e-5)

    def step(share: float) -> None:
        kept, forgotten, relabelled = s.latents(), s.latents(), s.latents()
        del relabelled  # the loader's third batch, of the same images under another label
        cond, other = s.encode(s.prompt), s.encode(s.anchor)
        x_r, t_r, noise = s.noised(kept)
        x, t, _ = s.noised(forgotten)
        remain = (_call(student)(x_r, t_r, s.encode(s.anchor)) - noise).square().mean()
        forget = (_call(student)(x, t, cond) - _call(student)(x, t, other).detach()).square().mean()
        adam.zero_grad()
        (forget + 0.5 * remain).backward()
        for name, p in trained.items():
            assert p.grad is not None
            p.grad *= masks[name]
        adam.step()

    return step


def erase_diff(s: Setting, inner: int = 2) -> Step:
    """Inner steps whose result enters the outer loss as a constant, and an outer step with both gradients."""
    student = _net(s, "xattn")
    trained = list(matching(student, s.model.scopes["xattn"]).values())
    adam = torch.optim.Adam(trained, lr=1e-5)

    def forgetting() -> Tensor:
        x, t, _ = s.noised(s.latents())
        s.latents()  # of the same images under the other label
        cond, other = s.encode(s.prompt), s.encode(s.anchor)
        return (_call(student)(x, t, cond) - _call(student)(x, t, other).detach()).square().mean()

    def step(share: float) -> None:
        before = [p.detach().clone() for p in trained]
        for _ in range(inner):
            adam.zero_grad()
            forgetting().backward()
            adam.step()
        with torch.no_grad():
            for p, old in zip(trained, before, strict=True):
                p.copy_(old)
        adam.zero_grad()
        forgetting().backward()
        x, t, noise = s.noised(s.latents())
        (_call(student)(x, t, s.encode(s.anchor)) - noise).square().mean().backward()
        adam.step()

    return step


def spm(s: Setting) -> Step:
    """Three calls of the teacher and one of the student, each with both halves of guidance."""
    state = TrainState(s.model, Scope("transformer-rank-1", rank=1, of="transformer"))
    adam = torch.optim.AdamW(state.trained.values(), lr=1e-4)

    def call(x: Tensor, t: Tensor, c: Tensor, adapted: bool = True) -> Tensor:
        cond = Cond(c, ("",) * len(c))
        return s.model.run(x, t, cond, state.called(state.trained) if adapted else None)

    def step(share: float) -> None:
        cond, null, other = s.encode(s.prompt), s.encode(""), s.encode(s.anchor)
        x, t = s.visited(call, share, cond, null)
        both, times = torch.cat([x, x]), torch.cat([t, t])
        with torch.no_grad():
            given, neutral, anchored = (call(both, times, torch.cat([null, c]), False).chunk(2)[1] for c in (cond, null, other))
        erased, kept = call(both, times, torch.cat([cond, other])).chunk(2)
        adam.zero_grad()
        loss = (erased - (neutral - (given - neutral))).square().mean() + 1000 * (kept - anchored).square().mean()
        loss.backward()
        adam.step()

    return step


STEPS: dict[str, Callable[[Setting], Step]] = {
    "esd": esd, "sdd": sdd, "ca": ca, "f-dmu": f_dmu, "salun": salun, "erase-diff": erase_diff, "spm": spm
}  # fmt: skip


def _net(s: Setting, trains: str | None) -> nn.Module:
    """A copy of the network; gradients for one scope, for none ("none"), or for all weights (None)."""
    net = copy.deepcopy(s.model.network).requires_grad_(trains is None)
    for parameter in matching(net, s.model.scopes[trains]).values() if trains in SCOPES else ():
        parameter.requires_grad_(True)
    return net


def _call(net: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda x, t, c: net(x, t, c, return_dict=False)[0]
