"""Which numbers of a network may change."""

import re
from dataclasses import dataclass

from torch import nn

from expunge.types import ExpungeError


@dataclass(frozen=True)
class Scope:
    """The parameters whose full name matches a regular expression.

    Frozen parameters get no gradient at all: with cross-attention alone the backward pass of a Stable Diffusion U-Net costs
    1.1 forwards instead of 2, and no buffer of the other gradients exists.
    """

    name: str
    pattern: str

    def parameters(self, net: nn.Module) -> dict[str, nn.Parameter]:
        """The matching parameters by name, in the network's order; nothing is changed.

        Raises:
            ExpungeError: nothing matches (an optimizer over nothing would train without complaint).
        """
        found = {name: p for name, p in net.named_parameters() if re.search(self.pattern, name)}
        if not found:
            raise ExpungeError(
                f"a scope selects parameters: {self.name!r} ({self.pattern}) matches none of the "
                f"{sum(1 for _ in net.parameters())} in {type(net).__name__}; choose another of {', '.join(SCOPES)}"
            )
        return found


SCOPES: dict[str, Scope] = {
    "xattn-kv": Scope("xattn-kv", r"\.attn2\.to_[kv]\."),
    "xattn": Scope("xattn", r"\.attn2\."),
    "non-xattn": Scope("non-xattn", r"^(?!.*\.attn2\.)"),
    "full": Scope("full", r""),
}
"""Keys and values of cross-attention (how words are read); all of cross-attention; all but it; everything."""
