"""Refuses numbers that are not finite before anything is computed from them or kept.

A network that overflows in half precision gives black images, in which every judge misses the concept.
"""

from torch import Tensor

from expunge.errors import ExpungeError


def refuse_non_finite(rows: Tensor, what: str, remedy: str = "--dtype fp32, or bf16") -> None:
    """Refuses `rows`, one for each image or point, if one of them has a NaN or an infinity.

    Args:
        what: what the rows are, as the subject of a sentence: "The latents of sampled images".

    Raises:
        ExpungeError: rule "not-finite"; the value is the number of such rows.
    """
    if count := len(rows) - int(rows.isfinite().flatten(1).all(1).sum()):
        raise ExpungeError(f"{what} are not finite for {count} of {len(rows)}.", rule="not-finite", value=count, hint=f"Try {remedy}.")
