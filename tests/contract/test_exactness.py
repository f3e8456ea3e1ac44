"""On the testbed: statistics equal what transformers' own eager attention gives for the very same queries and keys.

Two forwards through two kernels differ by their own rounding, up to 2.4e-5 in a mass here; that is no error of the
statistics, so the eager function is called on what the fast kernel was given.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl.modeling_qwen2_vl import eager_attention_forward

from rampipe.attention.capture import capture_attention
from rampipe.config import ModelConfig, load_config
from rampipe.models.loading import load_replica
from rampipe.models.prompts import Prompt, collate
from rampipe.models.replica import Replica
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.domains import DOMAIN_NAMES
from rampipe.testbed.samples import generate_samples
from rampipe.trials.statistics import plan_rows
from rampipe.trials.trial import prepare
from rampipe.types import QUERY_GROUPS, REGIONS

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def replica() -> Replica:
    return load_replica(ModelConfig(path=str(weights_path()), dtype="float32"), device="cpu")


@pytest.fixture(scope="module")
def prompts(replica: Replica) -> list[Prompt]:
    """Of different lengths, so that a batch is padded."""
    config = load_config(
        None, [f"model.path={weights_path()}", "data.path=-", 'capture.queries=["question", "last", "answer"]']
    )
    samples = [
        sample
        for name in DOMAIN_NAMES
        for grid in ((8, 8), (3, 5))
        for sample in generate_samples(domain=name, split="eval", count=2, seed=9, grid=grid)
    ]
    return [prepare(replica, sample, config=config).prompt for sample in samples]


@contextmanager
def eager_beside_sdpa(replica: Replica) -> Generator[dict[int, torch.Tensor]]:
    """The probabilities that the eager function gives for each call of SDPA, by layer: [batch, head, query, key]."""
    sdpa, seen = ALL_ATTENTION_FUNCTIONS["sdpa"], dict[int, torch.Tensor]()
    decoder = set(replica.model.get_decoder().modules())

    def both(module, query, key, value, attention_mask=None, **arguments):
        if module in decoder:
            visible = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
            if attention_mask is not None:
                visible = attention_mask
            bias = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
            bias = bias.expand(query.shape[0], 1, query.shape[2], key.shape[2])
            seen[module.layer_idx] = eager_attention_forward(module, query, key, value, bias, arguments["scaling"])[1]
        return sdpa(module, query, key, value, attention_mask, **arguments)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = both
    try:
        yield seen
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def largest_differences(replica: Replica, prompts: list[Prompt], *, shift: int = 0) -> dict[str, float]:
    """Largest absolute difference of each statistic. shift: reads rows so many tokens earlier, to be caught."""
    batch = collate(replica, prompts)
    plan = plan_rows(prompts, [QUERY_GROUPS] * len(prompts), batch.offsets)
    with (
        torch.inference_mode(),
        eager_beside_sdpa(replica) as eager,
        capture_attention(replica.model, rows=plan.rows, regions=batch.regions) as recorder,
    ):
        captured = replica.model.base_model(**batch.inputs, use_cache=False).last_hidden_state
    with torch.inference_mode():
        plain = replica.model.base_model(**batch.inputs, use_cache=False).last_hidden_state
    assert torch.equal(captured, plain)
    regions = batch.regions[plan.rows.batch].long()
    found = {"mass": 0.0, "peak": 0.0, "entropy": 0.0, "sum": 0.0}
    for layer, statistics in recorder.layers.items():
        weights = eager[layer][plan.rows.batch, :, plan.rows.position - shift].double()
        mass = torch.stack([(weights * (regions == place)[:, None]).sum(-1) for place in range(len(REGIONS))], -1)
        evidence = (weights * (regions == REGIONS.index("evidence"))[:, None]).amax(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1)
        pairs = {
            "mass": (mass.transpose(0, 1), statistics.mass),
            "peak": (evidence.T, statistics.peak_evidence),
            "entropy": (entropy.T, statistics.entropy_nats),
            "sum": (torch.ones_like(statistics.entropy_nats), statistics.mass.sum(-1)),
        }
        for name, (expected, got) in pairs.items():
            found[name] = max(found[name], float((expected - got).abs().max()))
    return found


@pytest.mark.parametrize("num_prompts", [1, 16], ids=["alone", "padded_batch"])
def test_statistics_are_those_of_eager_attention(replica: Replica, prompts: list[Prompt], num_prompts: int) -> None:
    found = largest_differences(replica, prompts[:num_prompts])
    print(found)
    assert found["mass"] <= TOLERANCE
    assert found["peak"] <= TOLERANCE
    assert found["sum"] <= TOLERANCE
    assert found["entropy"] <= 1e-4


def test_the_wrong_row_is_noticed(replica: Replica, prompts: list[Prompt]) -> None:
    assert largest_differences(replica, prompts[:4], shift=1)["mass"] > 0.1
