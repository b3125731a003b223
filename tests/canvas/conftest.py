"""The canvas is large enough to gain by oneDNN's convolutions, which other tests do without."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def convolutions(hastened: None) -> Iterator[None]:
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", True)
        yield
