"""A checkpoint with its layers on two GPUs, on a machine that has none, against the same checkpoint on one device."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.config import CaptureConfig
from rampipe.models.device_map import plan_device_map
from rampipe.models.replica import Replica
from rampipe.tables.arms import Arm, ArmMode
from rampipe.tables.rows import SampleResult
from rampipe.trials.observe import observe
from rampipe.trials.reference import reference_means
from rampipe.trials.restrict import restricted_answers
from rampipe.trials.silenced import silenced_answers
from rampipe.types import QUERY_GROUPS, HeadId, Sample
from tests.families import checks
from tests.unit.attention.several_gpus import place, several_gpus

WAYS: tuple[tuple[ArmMode, str], ...] = (("mean", "all"), ("evidence_knockout", "after_context"))
"""Of silencing: in the projection and in the attention, over whole prompts and behind contexts that are shared."""


def on_two_gpus(replica: Replica) -> Replica:
    """A copy with the second half of the decoder's layers on another GPU; within `several_gpus`."""
    model = copy.deepcopy(replica.model)
    planned = plan_device_map(model, memory_bytes=[10**9, 10**9])
    layers = [name for name in planned if ".layers." in name]
    assert {*planned.values()} == {0, 1}
    second = {name: int(index >= len(layers) / 2) for index, name in enumerate(layers)}
    place(model, {**planned, **second})
    return replace(replica, model=model, device=model.get_input_embeddings().weight.device)


def numbers_of(replica: Replica, samples: Sequence[Sample], *, restricts: bool) -> dict[str, torch.Tensor]:
    """What comes of all that a replica does with a batch: statistics, answers of silenced and of restricted heads."""
    trials = [checks.make_trial(replica, sample, answer=sample.answers[0]) for sample in samples]
    prompts = [trial.prompt for trial in trials]
    found = dict[str, torch.Tensor]()
    for index, result in enumerate(observe(replica, trials, config=CaptureConfig(queries=QUERY_GROUPS))):
        assert isinstance(result, SampleResult), result
        found |= {f"{index} {query}": torch.from_numpy(group.mass) for query, group in result.groups.items()}
    means = reference_means(replica, trials, batch_tokens=10**4)
    for mode, positions in WAYS:
        arms = [_arm(mode, positions, HeadId(layer, index % 2)) for index, layer in enumerate(_ends(means))]
        answers = silenced_answers(
            replica, [prompts[0]] * len(arms), arms, max_new_tokens=2, means=means if mode == "mean" else None
        )
        found[f"{mode} {positions}"] = _numbers(answers.log_probs)
    if restricts:
        heads = frozenset({HeadId(layer, 1) for layer in _ends(means)})
        plan = HybridPlan(heads, sink_tokens=2, window_tokens=12, keep_text=True)
        found["hybrid"] = _numbers(restricted_answers(replica, prompts, plan, max_new_tokens=2).log_probs)
    return found


def spread_difference(replica: Replica, samples: Sequence[Sample], *, restricts: bool) -> float:
    """Largest difference of any of these numbers from one device. Raises where tensors of two GPUs meet."""
    expected = numbers_of(replica, samples, restricts=restricts)
    with several_gpus():
        found = numbers_of(on_two_gpus(replica), samples, restricts=restricts)
    assert expected.keys() == found.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def _ends(means) -> list[int]:
    """The first and the last layer with heads."""
    return [min(means), max(means)]


def _arm(mode: ArmMode, positions, head: HeadId) -> Arm:
    name = f"{mode} {positions} {head}"
    return Arm(name, "top", "ablate", mode, positions, "query_head", "overall", 0.1, None, None, 1, 0.1, None, (head,))


def _numbers(values: Sequence[float | None]) -> torch.Tensor:
    return torch.tensor([math.nan if value is None else value for value in values])
