"""See what a fast attention kernel computes and its caller throws away: the log of each row's softmax sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # pyright: ignore[reportPrivateUsage]

_KERNELS = (
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention",
)
"""Kernels behind scaled_dot_product_attention whose second result is that logarithm for every row, natural base."""


class KernelWatch(TorchDispatchMode):
    """While it is on, SDPA runs as it would, by the same kernel on the same tensors, and its log-sum is kept.

    Other kernels (math, memory-efficient, cuDNN) are not read: they give none without gradients, or a padded one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run `func`. In inference mode SDPA arrives whole, and is taken apart under our eyes."""
        del types
        named = dict(kwargs or {})
        if func is torch.ops.aten.scaled_dot_product_attention.default:
            with self:
                return func.decompose(*args, **named)
        result = func(*args, **named)
        if func.name() in _KERNELS:
            self._found.append(result[1])
        return result

    def log_total(self, query: Float[Tensor, "batch head query dim"]) -> Float[Tensor, "batch head query"] | None:
        """Of the only kernel that ran, float32; None where none was seen, or several.

        Heads of one kv_head may have been packed as rows: their order is the same.
        """
        if len(self._found) != 1 or self._found[0].numel() != query.shape[:3].numel():
            return None
        return self._found[0].reshape(query.shape[:3]).float()
