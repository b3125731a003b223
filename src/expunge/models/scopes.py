"""Which numbers of a network may change."""

import re
from dataclasses import dataclass

from torch import nn

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Scope:
    """The parameters whose full name matches a regular expression, or low-rank additions to them.

    Frozen parameters get no gradient at all: with cross-attention alone the backward pass of a Stable Diffusion U-Net costs
    1.1 forwards instead of 2, and no buffer of the other gradients exists.
    """

    name: str
    pattern: str
    rank: int = 0
    """0 trains the parameters themselves. r > 0 trains, for each matching matrix W of shape [out, in], factors A [r, in] and
    B [out, r], and W becomes W + B A: far fewer numbers, a smaller change (LoRA, arXiv 2106.09685, without its scale)."""

    def parameters(self, net: nn.Module) -> dict[str, nn.Parameter]:
        """The matching parameters by name, in the network's order; nothing is changed.

        Raises:
            ExpungeError: nothing matches (an optimizer over nothing would train without complaint).
        """
        found = {n: p for n, p in net.named_parameters() if re.search(self.pattern, n) and (not self.rank or p.ndim == 2)}
        if not found:
            raise ExpungeError(
                f"a scope selects parameters: {self.name!r} ({self.pattern}) matches none of the "
                f"{sum(1 for _ in net.parameters())} in {type(net).__name__}; choose another of {', '.join(SCOPES)}"
            )
        return found

    def size(self, net: nn.Module) -> int:
        """How many numbers are trained."""
        return sum(self.rank * sum(p.shape) if self.rank else p.numel() for p in self.parameters(net).values())


SCOPES: dict[str, Scope] = {
    "xattn-kv": Scope("xattn-kv", r"\.attn2\.to_[kv]\."),
    "xattn": Scope("xattn", r"\.attn2\."),
    "non-xattn": Scope("non-xattn", r"^(?!.*\.attn2\.)"),
    "full": Scope("full", r""),
    "xattn-lora": Scope("xattn-lora", r"\.attn2\..*weight$", rank=4),
}
"""Keys and values of cross-attention (how words are read); all of cross-attention; all but it; everything; rank 4 in all of
cross-attention."""
