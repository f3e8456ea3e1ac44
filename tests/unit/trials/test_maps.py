"""Attention maps against eager attention and against the statistics of the same prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.config import ModelConfig
from rampipe.errors import ConfigError, SampleError
from rampipe.models.loading import load_replica
from rampipe.models.prompts import collate
from rampipe.trials.maps import attention_map
from rampipe.trials.observe import observe
from rampipe.trials.predict import without_answer
from rampipe.trials.trial import prepare
from rampipe.types import QUERY_GROUPS, REGIONS, HeadId

HEADS = [HeadId(1, 15), HeadId(0, 0), HeadId(1, 2), HeadId(0, 9)]


@pytest.fixture(scope="module")
def trial(replica, samples, config):
    return prepare(replica, samples[2], config=config)


@pytest.mark.parametrize("query", QUERY_GROUPS)
def test_equals_eager_attention(checkpoint, replica, trial, query):
    eager = load_replica(ModelConfig(path=str(checkpoint), dtype="float32", attention="eager"), device="cpu", threads=1)
    with torch.inference_mode():
        output = eager.model(**collate(eager, [trial.prompt]).inputs, output_attentions=True, use_cache=False)
    maps = attention_map(replica, trial.prompt, HEADS, query=query)
    assert list(maps) == HEADS
    for head, weights in maps.items():
        rows = output.attentions[head.layer][0, head.head, list(trial.prompt.query_positions(query))]
        expected = rows.mean(dim=0)[trial.prompt.visual_positions].numpy()
        assert np.abs(weights - expected).max() < 1e-5
    assert np.abs(maps[HEADS[0]] - maps[HEADS[2]]).max() > 1e-3
    assert weights.shape == (len(trial.prompt.token_boxes),)


def test_evidence_tokens_sum_to_the_measured_mass(replica, trial, config):
    (result,) = observe(replica, [trial], config=config.capture)
    is_evidence = trial.prompt.regions[trial.prompt.visual_positions] == REGIONS.index("evidence")
    maps = attention_map(replica, trial.prompt, HEADS, query="question")
    for head, weights in maps.items():
        measured = result.groups["question"].mass[head.layer, head.head, REGIONS.index("evidence")]
        assert abs(weights[is_evidence.numpy()].sum() - measured) < 1e-6


@pytest.mark.parametrize("head", [HeadId(2, 0), HeadId(0, 16), HeadId(0, -1)])
def test_unknown_head_is_named(replica, trial, head):
    with pytest.raises(ConfigError, match=rf"heads {head} \(layer\.head\)"):
        attention_map(replica, trial.prompt, [HEADS[0], head], query="last")
    assert attention_map(replica, trial.prompt, [HEADS[0]], query="last")


def test_registry_is_as_before(replica, trial):
    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    attention_map(replica, trial.prompt, HEADS, query="last")
    assert dict(ALL_ATTENTION_FUNCTIONS.items()) == before


def test_no_answer_rows_without_an_answer(replica, trial):
    prompt = without_answer(trial.prompt)
    with pytest.raises(SampleError, match="no answer rows"):
        attention_map(replica, prompt, HEADS, query="answer")
