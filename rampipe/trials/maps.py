"""Where heads look in the images of one prompt: what the report draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from rampipe.attention.maps import capture_maps
from rampipe.errors import SampleError
from rampipe.models.prompts import Prompt, collate
from rampipe.models.replica import Replica
from rampipe.types import HeadId, QueryGroup


def attention_map(
    replica: Replica, prompt: Prompt, heads: Sequence[HeadId], *, query: QueryGroup
) -> dict[HeadId, Float32[np.ndarray, " visual"]]:
    """Attention of each head to each visual token of the prompt, averaged over the query rows of one group.

    Values are shares of the whole attention, aligned with `prompt.token_boxes`: the sum over evidence tokens is the
    `mass_evidence` that `observe` measures, up to rounding, when all evidence is in images.
    Raises SampleError when the prompt has no rows of the group, ConfigError for heads that the model does not have.
    """
    positions = prompt.query_positions(query)
    if not positions:
        raise SampleError(
            f"sample {prompt.sample_id}: its prompt has no {query} rows. Encode it with an answer to draw those.",
            stage="statistics",
            code="rows_missing",
        )
    batch = collate(replica, [prompt])
    rows = torch.tensor(list(positions))
    with (
        torch.inference_mode(),
        capture_maps(replica.model, rows=rows, heads=heads, keys=prompt.visual_positions) as maps,
    ):
        replica.model.base_model(**batch.inputs, use_cache=False)
    return {head: maps[head].double().mean(dim=0).float().numpy() for head in heads}
