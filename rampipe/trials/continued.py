"""Rows that begin behind contexts read once: what touches only the rest of a prompt can share its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from rampipe.attention.prefix_cache import PrefixCache
from rampipe.models.prompts import PADDING_REGION, Batch, Prompt, collate, first_tokens, text_positions
from rampipe.models.replica import Replica


@dataclass(frozen=True, slots=True)
class Beginnings:
    """The contexts of some rows' prompts, read. sequence: of each row, its place in `batch` and `cache`."""

    replica: Replica
    batch: Batch
    cache: PrefixCache
    sequence: Int[Tensor, " row"]

    def behind(self, prompts: Sequence[Prompt], *, num_more_tokens: int = 0) -> tuple[Batch, PrefixCache]:
        """The rest of each row's prompt, padded on the left, and a cache with the contexts and room for more tokens.

        prompts: of the same rows, with or without their answers. Mask, regions and offsets of the batch are about whole
        rows, contexts included.
        """
        width = self.batch.regions.shape[1]
        rests = [_Rest(prompt, prompt.question.start) for prompt in prompts]
        num_new = max(rest.num_tokens for rest in rests)
        is_new = self._stack([rest.cut(torch.ones_like(rest.prompt.input_ids)) for rest in rests], num_new, value=0)
        inputs = {
            "input_ids": self._stack(
                [rest.cut(rest.prompt.input_ids) for rest in rests],
                num_new,
                value=self.replica.tokenizer.pad_token_id or 0,
            ),
            "attention_mask": torch.cat([self.batch.inputs["attention_mask"][self.sequence], is_new], dim=1),
            "position_ids": text_positions(self._rows(), (is_new.cumsum(dim=1) - 1).clamp(min=0)),
        }
        for name in prompts[0].inputs:
            inputs[name] = self._stack([rest.cut(rest.prompt.inputs[name]) for rest in rests], num_new, value=0)
        # Evidence may differ between questions about one context: regions are each prompt's own.
        known = self._stack([rest.prompt.regions[: rest.start] for rest in rests], width, value=PADDING_REGION)
        asked = self._stack([rest.cut(rest.prompt.regions) for rest in rests], num_new, value=PADDING_REGION)
        offsets = tuple(width + num_new - len(rest.prompt.input_ids) for rest in rests)
        cache = self.cache.spread(self.sequence, capacity_tokens=width + num_new + num_more_tokens)
        return Batch(inputs, torch.cat([known, asked], dim=1), offsets), cache

    def _rows(self) -> Batch:
        """The contexts as a batch with a sequence per row."""
        given = {name: tensor for name, tensor in self.batch.inputs.items() if name == "position_ids"}
        spread = {name: tensor.index_select(tensor.ndim - 2, self.sequence) for name, tensor in given.items()}
        return Batch(spread, self.batch.regions[self.sequence], ())

    def _stack(self, rows: Sequence[Tensor], width: int, *, value: int) -> Tensor:
        padded = [pad(row, (width - len(row), 0), value=value) for row in rows]
        return torch.stack(padded).to(self.replica.device)


@dataclass(frozen=True, slots=True)
class _Rest:
    """A prompt from its question on."""

    prompt: Prompt
    start: int

    @property
    def num_tokens(self) -> int:
        return len(self.prompt.input_ids) - self.start

    def cut(self, values: Tensor) -> Tensor:
        return values[self.start :]


def read_beginnings(replica: Replica, prompts: Sequence[Prompt]) -> Beginnings:
    """Read what comes before the question of each row's prompt; one that several rows have is read once."""
    unique = {id(prompt): prompt for prompt in prompts}
    places = {identity: place for place, identity in enumerate(unique)}
    batch = collate(replica, [first_tokens(prompt, prompt.question.start) for prompt in unique.values()])
    config = replica.model.config.get_text_config(decoder=True)
    cache = PrefixCache(config, capacity_tokens=batch.regions.shape[1])
    replica.model.base_model(**batch.inputs, use_cache=True, past_key_values=cache)
    sequence = torch.tensor([places[id(prompt)] for prompt in prompts], device=replica.device)
    return Beginnings(replica, batch, cache, sequence)
