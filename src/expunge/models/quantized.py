"""Networks whose linear layers are stored in four or eight bits: frozen, with low-rank additions trained beside them."""

from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor, nn

from expunge.errors import ExpungeError

Quantization: TypeAlias = Literal["nf4", "int8"]
"""How linear layers are stored: "nf4" in 4 bits (QLoRA, arXiv 2305.14314), the smallest; "int8" in 8, nearer to the full precision."""

QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)

PER_NUMBER = {"nf4": 0.5 + 1 / 64 + 4 / 64 / 256, "int8": 1.0}
"""Bytes of a number. With nf4 each block of 64 has a scale of 8 bits, and 256 scales have one of 32."""

PER_ROW = {"nf4": 0, "int8": 4}
"""Bytes of a matrix's row beside its numbers."""


def refuse_quantization(given: str | None) -> None:
    """Refuses an unknown name, and any where bitsandbytes is not installed.

    Raises:
        ExpungeError: rule "unknown-quantization" or "missing-package".
    """
    if given is None:
        return
    if given not in QUANTIZATIONS:
        raise ExpungeError(
            f"{given!r} is no quantisation.",
            rule="unknown-quantization",
            value=given,
            hint=f"Try {' or '.join(QUANTIZATIONS)} with --quantize.",
        )
    _library()


def quantize(network: nn.Module, kind: str) -> dict[str, Tensor]:
    """Replaces the linear layers of a network on the CPU by quantised ones, whose weights are quantised when the network moves to its
    device, the CPU included.

    Returns:
        The replaced weights by name, on the CPU and in the precision that they were loaded in: what a low-rank addition is merged with.
    """
    layers, kept = _library(), {}
    for name, layer in [(n, m) for n, m in network.named_modules() if type(m) is nn.Linear]:
        weight, sizes = layer.weight.detach(), (layer.in_features, layer.out_features, layer.bias is not None)
        if kind == "nf4":
            made = layers.Linear4bit(*sizes, compute_dtype=weight.dtype, quant_type="nf4", device="meta")
            made.support_avx512bf16_for_cpu = False  # it packs weights for products in bfloat16, which have no gradient and fit few shapes
            made.weight = layers.Params4bit(weight, requires_grad=False, quant_type="nf4", module=made)
        else:
            made = layers.Linear8bitLt(*sizes, has_fp16_weights=False, device="meta")
            made.weight = layers.Int8Params(weight.clone(), requires_grad=False, has_fp16_weights=False)
        made.bias = layer.bias
        place, _, last = name.rpartition(".")
        setattr(network.get_submodule(place), last, made.train(layer.training))
        kept[f"{name}.weight"] = weight
    return kept


def octets_of_network(network: nn.Module, kind: str | None) -> int:
    """Bytes of a network's weights, if its linear layers were stored so; of None as they are.

    The largest matrix counts a second time, in full precision: a call restores one at a time.
    """
    linear = {id(m.weight): m.weight for m in network.modules() if type(m) is nn.Linear} if kind else {}
    whole = sum(p.numel() * p.element_size() for p in network.parameters() if id(p) not in linear)
    if kind and linear:
        whole += sum(int(p.numel() * PER_NUMBER[kind]) + p.shape[0] * PER_ROW[kind] for p in linear.values())
        whole += max(p.numel() * p.element_size() for p in linear.values())
    return whole


def _library() -> Any:
    """The layers of bitsandbytes."""
    try:
        import bitsandbytes
    except ImportError as error:
        raise ExpungeError(
            "Quantised networks need bitsandbytes, which is not installed.",
            rule="missing-package",
            value="bitsandbytes",
            hint="Try pip install 'expunge[quantize]'.",
        ) from error
    return bitsandbytes.nn
