"""Which query rows of a running forward lie behind a given absolute position, with or without a cache."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from rampipe.errors import ConfigError, ModelError


class QueryPositions:
    """Forward hooks of a decoder that note how many tokens its cache held when the forward began.

    The attention interface cannot tell: a sliding cache hands over the last keys only, and layers that take their keys
    from others (Gemma 4) are run on the last tokens alone where no other logits are asked for.
    ran: layers that acted since the last finished forward began. num_forwards: finished ones.
    """

    def __init__(self, first: Sequence[int] | None, *, num_rows: int | None) -> None:
        self.first = first
        self.num_rows = num_rows
        self.num_cached = 0
        self.num_new: int | None = None
        self.num_forwards = 0
        self.ran: set[int] = set()

    def before_forward(self, decoder: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Read the length of the cache. Raises ModelError for a cache that does not tell it."""
        arguments = named
        if positional:
            arguments = inspect.signature(decoder.forward).bind_partial(*positional, **named).arguments
        cache = arguments.get("past_key_values")
        if cache is not None and not hasattr(cache, "get_seq_length"):
            raise ModelError(
                f"{type(decoder).__name__}: past_key_values is a {type(cache).__name__}; needed: a transformers Cache, "
                "whose get_seq_length() gives the absolute positions. Pass a DynamicCache."
            )
        self.num_cached = 0 if cache is None else int(cache.get_seq_length())
        tokens = [arguments.get(name) for name in ("inputs_embeds", "input_ids")]
        self.num_new = next((int(given.shape[1]) for given in tokens if given is not None), None)

    def after_forward(self, decoder: nn.Module, positional: tuple[Any, ...], output: Any) -> None:
        """Count a forward that came to its end."""
        del decoder, positional, output
        self.num_forwards += 1

    def starts(self, num_rows: int, num_queries: int) -> list[int]:
        """Index of the first silenced query of this forward, per batch row; `num_queries` where there is none.

        The silenced queries are always the last ones. Raises ConfigError when the batch has another size.
        """
        if self.num_rows not in (None, num_rows):
            raise ConfigError(
                f"silence for {self.num_rows} batch rows: the forward has {num_rows}. Give one entry per row of the "
                "batch; beams and returned sequences count as rows."
            )
        if self.first is None:
            return [0] * num_rows
        left_out = 0 if self.num_new is None else self.num_new - num_queries
        return [min(max(first - self.num_cached - left_out, 0), num_queries) for first in self.first]
