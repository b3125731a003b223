"""Gradient checkpointing under weights that a call is given: what is computed again is computed under the same."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from expunge.models import low_rank
from expunge.models.delta import swapped


class Under(AbstractContextManager):
    """A network under whole weights and low-rank factors. It may be entered again, for each backward pass through the same graph."""

    def __init__(self, network: nn.Module, whole: Mapping[str, Tensor], factors: low_rank.Factors):
        self.network, self.whole, self.factors = network, whole, factors
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack.enter_context(swapped(self.network, self.whole))
        self._stack.enter_context(low_rank.added(self.network, self.factors))

    def __exit__(self, *error: object) -> None:
        self._stack.close()


@contextmanager
def as_trained(network: Any, recomputes: bool, weights: Callable[[], AbstractContextManager | None]) -> Iterator[None]:
    """A network of diffusers without dropout, and with gradient checkpointing only where it is asked for; afterwards it is as it was.

    Args:
        weights: see `recomputing`.
    """
    was_training, did_recompute = network.training, network.is_gradient_checkpointing
    network.eval()
    network.disable_gradient_checkpointing()
    if recomputes:
        network.enable_gradient_checkpointing(recomputing(weights))
    try:
        yield
    finally:
        network.train(was_training)
        if recomputes or did_recompute:
            network.enable_gradient_checkpointing()  # by the way of diffusers again
        if not did_recompute:
            network.disable_gradient_checkpointing()


def recomputing(weights: Callable[[], AbstractContextManager | None]) -> Callable[..., Any]:
    """What diffusers calls a block by under gradient checkpointing.

    Args:
        weights: gives the context of the present call of the network, which is entered when a block is computed again; None for its own
            weights.
    """

    def call(block: Any, *arguments: Any) -> Any:
        again = weights() or nullcontext()
        return checkpoint(block.__call__, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), again))

    return call
