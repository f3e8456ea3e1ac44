"""From a recorded forward to rows of a table: which rows were read for which group, and their averages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from rampipe.attention.capture import QueryRows, Recorder, bad_rows, check_recorded
from rampipe.errors import SampleError
from rampipe.models.prompts import Prompt
from rampipe.tables.rows import GroupStatistics
from rampipe.trials.peer_scores import EVIDENCE, peer_scores
from rampipe.types import QueryGroup

Groups = dict[QueryGroup, GroupStatistics]


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The query rows of a batch: those of one prompt and one group are neighbours, in the order prompt, group."""

    rows: QueryRows
    groups: tuple[tuple[QueryGroup, ...], ...]
    """Of each prompt."""
    starts: tuple[int, ...]
    """First row of each (prompt, group)."""


def plan_rows(
    prompts: Sequence[Prompt],
    groups: Sequence[tuple[QueryGroup, ...]],
    offsets: Sequence[int],
    *,
    peer_scores: bool = False,
) -> RowPlan:
    """Rows of each prompt's groups, as positions in the forward. offsets: where each prompt's first token is, or would
    be: it may be negative where a forward begins later. peer_scores: whether answer rows are read for these too.
    """
    batch: list[int] = []
    positions: list[int] = []
    starts: list[int] = []
    tops: list[bool] = []
    for index, (prompt, of_prompt) in enumerate(zip(prompts, groups, strict=True)):
        for group in of_prompt:
            starts.append(len(positions))
            positions += [offsets[index] + position for position in prompt.query_positions(group)]
            batch += [index] * (len(positions) - starts[-1])
            tops += [group == "answer"] * (len(positions) - starts[-1])
    rows = QueryRows(torch.tensor(batch), torch.tensor(positions), torch.tensor(tops) if peer_scores else None)
    return RowPlan(rows, tuple(groups), tuple(starts))


def read_groups(
    recorder: Recorder,
    plan: RowPlan,
    prompts: Sequence[Prompt],
    *,
    model: PreTrainedModel,
    layers: Collection[int] | None = None,
) -> list[Groups | SampleError]:
    """Averages over the rows of each group, summed in float64; for each prompt all groups or the reason why not.

    layers: those that were asked for, by default all.
    One prompt's NaN stays its own (code `nonfinite`; `mass_sum` when masses miss 1). Raises ModelError when the layers
    are not those that the configuration promises.
    """
    try:
        check_recorded(recorder, model, layers=layers)
        is_bad = np.zeros(len(plan.rows.batch), dtype=bool)
    except SampleError:
        # Some row is bad: each sample is judged for itself.
        is_bad = bad_rows(recorder).numpy()
    averages = _averages(recorder, plan)
    results: list[Groups | SampleError] = []
    first = 0
    for index, prompt in enumerate(prompts):
        groups: Groups = {
            group: _group(recorder, prompt, averages[first + place]) for place, group in enumerate(plan.groups[index])
        }
        if plan.rows.tops is not None and "answer" in groups:
            start = plan.starts[first + plan.groups[index].index("answer")]
            groups["answer"] = replace(groups["answer"], **peer_scores(recorder, prompt, first_row=start))
        first += len(plan.groups[index])
        is_sample_bad = bool(is_bad[plan.rows.batch.numpy() == index].any())
        results.append(_judged(groups, prompt.sample_id, is_bad=is_sample_bad))
    return results


def _group(recorder: Recorder, prompt: Prompt, averages: Mapping[str, Any]) -> GroupStatistics:
    return GroupStatistics(
        layers=np.array(sorted(recorder.layers), dtype=np.int16),
        **averages,
        mass_evidence_null=None,
        has_evidence=bool((prompt.regions.numpy() == EVIDENCE).any()),
        has_learned_sink=recorder.has_learned_sink,
    )


def _judged(groups: Groups, sample_id: str, *, is_bad: bool) -> Groups | SampleError:
    try:
        for query, group in groups.items():
            group.check(source=f"sample {sample_id}, query {query}")
    except SampleError as error:
        return error
    if is_bad:
        return SampleError(
            f"sample {sample_id}: in some layer and row the masses over the regions miss 1 by over 1e-4, though not "
            "on average. A key marked as padding is visible to the row. Sample skipped.",
            stage="statistics",
            code="mass_sum",
        )
    return groups


def _averages(recorder: Recorder, plan: RowPlan) -> list[dict[str, Any]]:
    """For each (prompt, group) the statistics by name, averaged over its rows: [layer, head, ...] float32.

    None where the backend has none.
    """
    ordered = [recorder.layers[layer] for layer in sorted(recorder.layers)]
    lengths = np.diff([*plan.starts, len(plan.rows.batch)])
    averages: list[dict[str, Any]] = [{} for _ in plan.starts]
    for name in ("mass", "peak_evidence", "hit", "entropy_nats"):
        of_layers = [getattr(layer, name) for layer in ordered]
        if of_layers[0] is None:
            averages = [{**average, name: None} for average in averages]
            continue
        device = of_layers[0].device  # layers may be on several
        values = torch.stack([of_layer.to(device) for of_layer in of_layers]).cpu().double().numpy()
        sums = np.moveaxis(np.add.reduceat(values, plan.starts, axis=2), 2, 0)
        means = (sums / lengths.reshape(-1, *[1] * (sums.ndim - 1))).astype(np.float32)
        averages = [{**average, name: mean} for average, mean in zip(averages, means, strict=True)]
    return averages
