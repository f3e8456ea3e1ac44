"""Dense decoding that reads each kv_head once, where the library's reads it once per query head: the honest baseline.

with packed_decode(model):
    model.generate(**inputs)
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.call import AttentionCall, read_call
from rampipe.attention.interface import AttentionFunction, installed, masked_kernel, refuse_unless_alone
from rampipe.errors import ModelError


class PackedDecode:
    """The function behind the registry's `sdpa` for one decoder: single query rows packed, all else passes through."""

    is_observable = True

    def __init__(self, decoder: nn.Module) -> None:
        self.implementation = "sdpa"
        self.library: AttentionFunction = ALL_ATTENTION_FUNCTIONS["sdpa"]
        self.prior: AttentionFunction | None = self.library
        self.modules = frozenset(decoder.modules())

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attention output `[batch, query, head, dim]` and no weights."""
        is_grouped = query.shape[1] > key.shape[1]
        if query.shape[2] != 1 or not is_grouped or module not in self.modules:
            return self.library(module, query, key, value, attention_mask, **kwargs)
        call = read_call(module, "sdpa", query=query, key=key, mask=attention_mask, arguments=kwargs)
        if kwargs.get("dropout"):
            raise ModelError(f"attention dropout is {kwargs['dropout']}; allowed: 0. Call model.eval() first.")
        return packed_heads(call, value), None


def packed_heads(
    call: AttentionCall, value: Float[Tensor, "batch kv_head key value_dim"]
) -> Float[Tensor, "batch 1 head value_dim"]:
    """Attention of one query row: the query heads of a kv_head become the rows of one product.

    Raises ModelError for a mask that is not 4-D: SDPA would not take it either.
    """
    num_kv_heads, mask = call.key.shape[1], call.mask
    if mask is not None and mask.dim() != 4:
        raise ModelError(
            f"packed decoding with a mask of shape {tuple(mask.shape)}; allowed: [batch, 1 or head, 1, key]. Pass a "
            "2-D attention_mask to the model, which makes one."
        )
    if mask is not None and mask.shape[1] > 1:
        mask = mask[:, :, 0].unflatten(1, (num_kv_heads, -1))
    rows = call.query[:, :, 0].unflatten(1, (num_kv_heads, -1))
    output = functional.scaled_dot_product_attention(rows, call.key, value, attn_mask=mask, scale=call.scaling)
    return output.flatten(1, 2)[:, None]


@contextmanager
def packed_decode(model: PreTrainedModel) -> Generator[None]:
    """Decode densely, with the query heads of each kv_head as rows of one product, while the context lasts.

    Prefill, models whose every query head has keys of its own, other models of the process and the vision tower are
    left to the library. The same sums in another order: equal within float rounding. Afterwards the registry is as
    before, also when the body raises. A decoder on a flash kernel is on sdpa within.
    Raises ModelError for an eager decoder, or when attention is observed or restricted already.
    """
    decoder = model.get_decoder()
    with masked_kernel(model):
        refuse_unless_alone(decoder, "packed decoding")
        with installed([PackedDecode(decoder)]):
            yield
