"""Statistics of a batch against eager attention of each sample alone, and that samples do not touch each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rampipe.config import CaptureConfig, ModelConfig
from rampipe.errors import SampleError
from rampipe.models.loading import load_replica
from rampipe.models.prompts import collate
from rampipe.tables.rows import SampleResult, head_stats_table, samples_table
from rampipe.trials.observe import observe
from rampipe.trials.trial import prepare
from rampipe.types import QUERY_GROUPS, REGIONS, Evidence

EVIDENCE = REGIONS.index("evidence")


@pytest.fixture(scope="module")
def trials(replica, samples, config):
    return [prepare(replica, sample, config=config) for sample in samples]


@pytest.fixture(scope="module")
def results(replica, trials, config):
    return observe(replica, trials, config=config.capture)


@pytest.fixture(scope="module")
def eager(checkpoint):
    return load_replica(ModelConfig(path=str(checkpoint), dtype="float32", attention="eager"), device="cpu", threads=1)


def eager_rows(eager, prompt, group):
    """Probabilities [layer, head, row, key] of one prompt alone."""
    with torch.inference_mode():
        output = eager.model(**collate(eager, [prompt]).inputs, output_attentions=True, use_cache=False)
    return torch.stack(output.attentions)[:, 0].double()[:, :, list(prompt.query_positions(group))]


@pytest.mark.parametrize("group", QUERY_GROUPS)
def test_equals_eager_attention_of_each_sample_alone(eager, trials, results, group):
    assert len({len(trial.prompt.input_ids) for trial in trials}) == 4, "the batch must need padding"
    for trial, result in zip(trials, results, strict=True):
        rows = eager_rows(eager, trial.prompt, group)
        regions = trial.prompt.regions.long()
        measured = result.groups[group]
        for index in range(len(REGIONS)):
            expected = rows[..., regions == index].sum(dim=-1).mean(dim=-1)
            assert np.abs(measured.mass[..., index] - expected.numpy()).max() < 1e-5
        evidence, other = rows[..., regions == EVIDENCE], rows[..., regions != EVIDENCE]
        peak = evidence.amax(dim=-1)
        assert np.abs(measured.peak_evidence - peak.mean(dim=-1).numpy()).max() < 1e-5
        hit = (peak > other.amax(dim=-1)).double().mean(dim=-1)
        assert np.abs(measured.hit - hit.numpy()).max() < 1e-5
        entropy = -(rows * rows.clamp(min=1e-300).log()).sum(dim=-1).mean(dim=-1)
        assert np.abs(measured.entropy_nats - entropy.numpy()).max() < 1e-4


def test_groups_and_heads_differ(results):
    """The twin of the comparison: were all numbers alike, any mix-up of rows would pass it."""
    for result in results:
        masses = [result.groups[group].mass[..., EVIDENCE] for group in QUERY_GROUPS]
        assert np.abs(masses[0] - masses[1]).max() > 1e-2
        assert np.abs(masses[1] - masses[2]).max() > 1e-2
        assert masses[0].std() > 1e-2


def test_null_column_is_the_measurement_of_the_null_question(replica, samples, config, results):
    asked_nothing = [replace(sample, question="N/A") for sample in samples]
    null_trials = [prepare(replica, sample, config=config) for sample in asked_nothing]
    for result, null in zip(results, observe(replica, null_trials, config=config.capture), strict=True):
        column = result.groups["question"].mass_evidence_null
        assert column is not None
        # Questions of other lengths take SDPA to other kernels.
        assert np.abs(column - null.groups["question"].mass[..., EVIDENCE]).max() < 1e-5
        assert np.abs(column - result.groups["question"].mass[..., EVIDENCE]).max() > 1e-3
        assert result.groups["last"].mass_evidence_null is None
        assert result.groups["answer"].mass_evidence_null is None


@pytest.mark.parametrize("keys", [{"calibrate": False}, {"queries": ["last"]}])
def test_not_calibrated_has_no_null_column(replica, samples, config, keys):
    capture = CaptureConfig.model_validate({"queries": ["question", "last"], **keys})
    trial = prepare(replica, samples[0], config=config.model_copy(update={"capture": capture}))
    assert trial.null_prompt is None
    (result,) = observe(replica, [trial], config=capture)
    assert list(result.groups) == list(capture.queries)
    assert all(group.mass_evidence_null is None for group in result.groups.values())


def test_order_and_company_do_not_change_a_sample(replica, trials, results, config):
    order = [2, 0, 3, 1]
    permuted = observe(replica, [trials[index] for index in order], config=config.capture)
    alone = [observe(replica, [trial], config=config.capture)[0] for trial in trials]
    for index, result in enumerate(results):
        # Alone there is no padding, so SDPA takes another kernel: only rounding may differ.
        for other, tolerance in ((permuted[order.index(index)], 1e-6), (alone[index], 1e-5)):
            assert other.sample_id == result.sample_id
            for group in QUERY_GROUPS:
                assert np.abs(other.groups[group].mass - result.groups[group].mass).max() < tolerance
    assert np.abs(alone[0].groups["last"].mass - alone[1].groups["last"].mass).max() > 1e-3


def poisoned(trial, *, in_null=False):
    """The trial with one NaN pixel value."""
    prompt = trial.null_prompt if in_null else trial.prompt
    pixels = prompt.images["pixel_values"].clone()
    pixels[5, 7] = torch.nan
    bad = replace(prompt, images={**prompt.images, "pixel_values": pixels})
    return replace(trial, null_prompt=bad) if in_null else replace(trial, prompt=bad)


@pytest.mark.fault("B13")
@pytest.mark.parametrize("in_null", [False, True])
def test_nan_stays_with_its_sample(replica, trials, config, in_null):
    mixed = [trials[0], poisoned(trials[1], in_null=in_null), *trials[2:]]
    capture = config.capture.model_copy(update={"share_context": not in_null})  # shared, the null prompt has no images
    results = observe(replica, trials, config=capture)
    measured = observe(replica, mixed, config=capture)
    assert isinstance(measured[1], SampleError)
    assert (measured[1].stage, measured[1].code) == ("statistics", "nonfinite")
    assert mixed[1].sample.sample_id in str(measured[1])
    for index in (0, 2, 3):
        assert np.array_equal(measured[index].groups["question"].mass, results[index].groups["question"].mass)


def test_result_describes_the_prompt(trials, results):
    for trial, result in zip(trials, results, strict=True):
        assert result.num_tokens == trial.prompt.num_prompt_tokens < len(trial.prompt.input_ids)
        assert sum(result.region_counts.values()) == result.num_tokens
        assert result.region_counts["answer"] == 0
        assert result.region_counts["evidence"] == 1
        assert result.domain == "noise"
        assert result.flags == ()
    assert head_stats_table(results).num_rows == sum(group.num_heads for r in results for group in r.groups.values())
    assert samples_table(results).num_rows == 4


@pytest.mark.fault("B12")
def test_sample_without_evidence_says_so(replica, samples, config):
    trial = prepare(replica, replace(samples[0], evidence=()), config=config)
    (result,) = observe(replica, [trial], config=config.capture)
    assert result.flags == ("no_evidence",)
    assert not result.groups["question"].has_evidence
    assert head_stats_table([result])["mass_evidence"].null_count == head_stats_table([result]).num_rows


class _Full:
    """A device that holds at most so many sequences: raises what CUDA raises, before the real forward."""

    def __init__(self, most):
        self.most, self.seen = most, []

    def __call__(self, _module, _args, kwargs):
        self.seen.append(len(kwargs["input_ids"]))
        if self.seen[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


@pytest.mark.fault("F12")
def test_full_device_halves_the_batch(replica, trials, results, config):
    full = _Full(most=2)
    handle = replica.model.base_model.register_forward_pre_hook(full, with_kwargs=True)
    try:
        measured = observe(replica, trials, config=config.capture)
    finally:
        handle.remove()
    assert full.seen == [4, 2, 2, 2, 2]  # contexts, then what is asked about them
    for result, expected in zip(measured, results, strict=True):
        assert isinstance(result, SampleResult)
        assert np.abs(result.groups["last"].mass - expected.groups["last"].mass).max() < 1e-5


@pytest.mark.fault("F12")
def test_sample_that_does_not_fit_alone_is_an_error_row(replica, trials, config):
    handle = replica.model.base_model.register_forward_pre_hook(_Full(most=0), with_kwargs=True)
    try:
        measured = observe(replica, trials[:2], config=config.capture)
    finally:
        handle.remove()
    assert [(error.stage, error.code) for error in measured] == [("forward", "out_of_memory")] * 2
    assert "CUDA out of memory" in str(measured[0])
    assert len(observe(replica, trials[:2], config=config.capture)) == 2


def test_no_answer_to_force_is_an_error(replica, samples, config):
    with pytest.raises(SampleError, match="asks for `answer` rows") as caught:
        prepare(replica, replace(samples[0], answers=()), config=config)
    assert (caught.value.stage, caught.value.code) == ("encode", "answer_missing")


def test_bad_images_fail_in_prepare(replica, samples, config):
    stored = replace(samples[0].images[0], bytes=samples[0].images[0].bytes[:100])
    with pytest.raises(SampleError) as caught:
        prepare(replica, replace(samples[0], images=(stored,)), config=config)
    assert caught.value.stage == "decode"
    outside = Evidence(kind="box", image=0, box=(900.0, 900.0, 950.0, 950.0))
    with pytest.raises(SampleError) as caught:
        prepare(replica, replace(samples[0], evidence=(outside,)), config=config)
    assert caught.value.stage == "regions"
