"""The reference set of mode `mean`: what every head gives on average over prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from rampipe.attention.reference_means import head_means
from rampipe.attention.silence import HeadMeans
from rampipe.models.prompts import collate
from rampipe.models.replica import Replica
from rampipe.trials.batches import compose_batches
from rampipe.trials.predict import without_answer
from rampipe.trials.trial import Trial


def reference_means(replica: Replica, trials: Sequence[Trial], *, batch_tokens: int) -> HeadMeans:
    """Mean over all prompt tokens of the trials, padding left out. The same trials give the same means.

    Raises DataError without a trial.
    """

    def batches() -> Iterator[tuple[dict[str, Any], Bool[Tensor, "batch query"]]]:
        lengths = {index: trial.prompt.num_prompt_tokens for index, trial in enumerate(trials)}
        kinds = {index: trial.prompt.stack_kind for index, trial in enumerate(trials)}
        for indices in compose_batches(lengths, batch_tokens=batch_tokens, kind_of=kinds):
            batch = collate(replica, [without_answer(trials[index].prompt) for index in indices])
            yield batch.inputs, batch.inputs["attention_mask"].bool()

    with torch.inference_mode():
        return head_means(replica.model, batches())
