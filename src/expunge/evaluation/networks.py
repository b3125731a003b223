"""Networks that metrics measure images by: features of images, agreement with prompts, distances of pairs.

A network is named by the folder or id of a transformers model, by a file, or, for LPIPS, by one of `LPIPS_NETS`. Nothing is downloaded but
by an id of the hub.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import Images, embedding
from expunge.models.quiet import quiet
from expunge.storage.files import lying_at
from expunge.storage.hashing import sha256_of
from expunge.storage.tensors import fingerprint

LPIPS_NETS = ("alex", "vgg", "squeeze")
"""LPIPS's own networks, with the package `lpips`."""


class VisionFeatures:
    """Features of any transformers vision model, or of the vision tower of CLIP or SigLIP: its image embedding, else what it pools without
    weights of its own, else the class token. A pooler with weights does not count, because many checkpoints come without it.

    Raises:
        ExpungeError: rule "unreadable-network", a folder or id that holds no such model in safetensors, or not all of its weights.
    """

    def __init__(self, model: str, device: str | torch.device):
        from transformers import AutoImageProcessor, AutoModel

        self.processor = _read(AutoImageProcessor, model)
        self.net, report = _read(AutoModel, model, use_safetensors=True, output_loading_info=True)
        if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
            raise _unreadable(model, f"it lacks the weights {missing[0]}")
        self.net.to(device).eval()
        self.weights = fingerprint(self.net)
        pooler = getattr(self.net, "pooler", None)
        self._pools = pooler is None or not list(pooler.parameters())

    @torch.no_grad()
    def __call__(self, images: Images) -> Float[Tensor, "b d"]:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.net.device)
        if hasattr(self.net, "get_image_features"):
            return embedding(self.net.get_image_features(**inputs)).float().cpu()
        out = self.net(**inputs)
        if self._pools and getattr(out, "pooler_output", None) is not None:
            return out.pooler_output.flatten(1).float().cpu()
        last = out.last_hidden_state
        return (last[:, 0] if last.ndim == 3 else last.mean((2, 3))).float().cpu()


class ScriptedFeatures:
    """Features of a TorchScript file, called as `net(images, return_features=True)` with 8-bit images: what the Inception of published FIDs
    does, as StyleGAN's authors export it (`inception-2015-12-05.pt`, 2048 features). It resizes and normalises by itself."""

    def __init__(self, file: str, device: str | torch.device):
        self.net, self.weights = _script(file, device), sha256_of(Path(file))[:32]

    @torch.no_grad()
    def __call__(self, images: Images) -> Float[Tensor, "b d"]:
        return self.net(images.to(_device_of(self.net)), return_features=True).flatten(1).float().cpu()


class PromptAgreement:
    """CLIP score: 100 max(cos, 0) of CLIP's embeddings of an image and its prompt.

    Raises:
        ExpungeError: rule "unreadable-network", a folder or id that holds no CLIP in safetensors.
    """

    def __init__(self, model: str, device: str | torch.device):
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        self.processor, self.tokenizer = _read(CLIPImageProcessor, model), _read(AutoTokenizer, model)
        self.net = _read(CLIPModel, model, use_safetensors=True).to(device).eval()
        self.weights = fingerprint(self.net)

    @torch.no_grad()
    def __call__(self, images: Images, prompts: Sequence[str]) -> Float[Tensor, " b"]:
        pixels = self.processor(images=list(images), return_tensors="pt").to(self.net.device)
        limit = self.net.config.text_config.max_position_embeddings
        words = self.tokenizer(list(prompts), padding=True, truncation=True, max_length=limit, return_tensors="pt").to(self.net.device)
        image = embedding(self.net.get_image_features(**pixels))
        text = embedding(self.net.get_text_features(input_ids=words.input_ids, attention_mask=words.attention_mask))
        return 100 * torch.cosine_similarity(image, text).clamp(min=0).float().cpu()


class PairDistance:
    """LPIPS of two images: by the package `lpips` and a network of torchvision ("alex", "vgg", "squeeze"), or by a TorchScript file, called
    as `net(x, y)` with images in [-1, 1].

    Raises:
        ExpungeError: rule "missing-package" or "unreadable-network".
    """

    def __init__(self, name: str, device: str | torch.device):
        if name not in LPIPS_NETS:
            self.net, self.weights = _script(name, device), sha256_of(Path(name))[:32]
            return
        try:
            from lpips import LPIPS
        except ImportError as error:
            raise ExpungeError(
                f"LPIPS by {name!r} needs a package that is not installed ({error}).",
                rule="missing-package",
                value="lpips",
                hint="Try pip install 'expunge[lpips]', or a TorchScript file, which needs no package.",
            ) from error
        self.net = LPIPS(net=name, verbose=False).to(device).eval()
        self.weights = fingerprint(self.net)

    @torch.no_grad()
    def __call__(self, images: Images, others: Images) -> Float[Tensor, " b"]:
        x, y = (of.to(_device_of(self.net)).float() / 127.5 - 1 for of in (images, others))
        return self.net(x, y).flatten().float().cpu()


def load_network(key: str, name: str, device: str | torch.device) -> Any:
    """The network that a key of `--features` names. A process loads each once per device; a file that changes is loaded again.

    Raises:
        ExpungeError: rule "unreadable-network" or "missing-package".
    """
    return _load(key if key in ("CLIP_score", "LPIPS") else "", name, str(device), tuple(lying_at(name)))


@lru_cache(maxsize=6)
def _load(key: str, name: str, device: str, files: tuple[tuple[str, int, int], ...]) -> Any:
    kinds: dict[str, Callable[[str, str], Any]] = {"CLIP_score": PromptAgreement, "LPIPS": PairDistance}
    if key in kinds:
        return kinds[key](name, device)
    return ScriptedFeatures(name, device) if Path(name).suffix == ".pt" else VisionFeatures(name, device)


def _read(cls: Any, model: str, **how: Any) -> Any:
    try:
        with quiet():
            return cls.from_pretrained(model, trust_remote_code=False, **how)
    except (OSError, ValueError) as error:
        raise _unreadable(model, error) from error


def _script(file: str, device: str | torch.device) -> Any:
    try:
        return torch.jit.load(file, map_location=torch.device(device)).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(file, error) from error


def _device_of(net: torch.nn.Module) -> torch.device:
    """Where a network is; one without parameters counts as on the CPU."""
    found = next(net.parameters(), None)
    return torch.device("cpu") if found is None else found.device


def _unreadable(name: str, reason: object) -> ExpungeError:
    first = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    return ExpungeError(
        f"{name} cannot be read as a network: {first.rstrip('.')}.",
        rule="unreadable-network",
        value=name,
        hint="Try a folder with a transformers vision model in safetensors, or a file that docs/how-to/judge.md names.",
    )
