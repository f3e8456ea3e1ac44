"""What restricted heads may not see of keys that are held in full, as an additive mask that grows with the sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rampipe.attention.kept_keys import KeptKeys


class HiddenBias:
    """Additive mask of the kv_heads that hold every key, for one new row after the other: a step costs one column.

    A boolean mask would be converted by SDPA in every step, for up to twice the time of the attention itself.
    """

    def __init__(self, is_restricted: Bool[Tensor, "kv_head group"], *, window: int, capacity_tokens: int) -> None:
        self.is_restricted = is_restricted
        self.window = window
        self.capacity_tokens = capacity_tokens
        self._bias: Tensor | None = None
        self._column = torch.zeros(0)
        self._num_decided = 0

    def row(
        self, position: int, kept: Sequence[KeptKeys], *, dtype: torch.dtype
    ) -> Float[Tensor, "batch kv_head group key"] | None:
        """For the row at `position`: 0, or the type's minimum at what has left the window. None if nothing has.

        Rows must be asked for in order.
        """
        num_left = position - self.window + 1
        if num_left <= 0:
            return None
        if self._bias is None:
            shape = (len(kept), *self.is_restricted.shape, self.capacity_tokens)
            self._bias = torch.zeros(shape, dtype=dtype, device=self.is_restricted.device)
            self._column = torch.zeros_like(self._bias[0, :, :, :1]).masked_fill_(
                self.is_restricted[..., None], torch.finfo(dtype).min
            )
            self._num_decided = 0
        for batch, keys in enumerate(kept):
            new = self._bias[batch, :, :, self._num_decided : num_left]
            first, last = keys.num_before(self._num_decided), keys.num_before(num_left)
            if last - first < new.shape[2]:
                new.copy_(self._column)
            if last > first:
                new[:, :, keys.index[first:last] - self._num_decided] = 0
        self._num_decided = num_left
        return self._bias[..., : position + 1]

    def forget(self) -> None:
        """Start anew: the sequences are others."""
        self._bias = None
