"""Text encoders wait in the computer's memory while nothing is encoded: an accelerator then has room for the network alone."""

from collections.abc import Sequence

import torch
from torch import nn


class Resting:
    """Moves text encoders to the CPU when the network is called, and back when there is a prompt to encode.

    It keeps no note of where they are, so that copies of a model may share it. Prompts that follow each other without a call of the
    network between them take one move. Numbers do not depend on it: encoders compute on the device, as before.

    Args:
        encoders: those that may move.
        device: where they encode.
    """

    def __init__(self, encoders: Sequence[nn.Module] = (), device: torch.device = torch.device("cpu")):
        self.encoders, self.device = (tuple(encoders) if device.type != "cpu" else ()), device

    def wake(self) -> None:
        """Brings them to the device."""
        self._move(self.device)

    def rest(self) -> None:
        """Sends them to the CPU."""
        self._move(torch.device("cpu"))

    def stay(self) -> None:
        """Brings them to the device for good: for searches that call encoder and network in turn, and for a pipeline that is given away."""
        self.wake()
        self.encoders = ()

    def _move(self, device: torch.device) -> None:
        for encoder in self.encoders:
            if next(encoder.parameters()).device.type != device.type:
                encoder.to(device)
