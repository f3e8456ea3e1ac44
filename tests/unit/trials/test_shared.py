"""A context that is read once says what it says when it is read for every question anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rampipe.trials.observe import observe
from rampipe.trials.shared import find_contexts
from rampipe.trials.trial import prepare
from rampipe.types import QUERY_GROUPS, ContextPart, Evidence

COLUMNS = ("mass", "peak_evidence", "hit", "entropy_nats", "mass_evidence_null")


@pytest.fixture(scope="module")
def asked(samples):
    """Seven questions about four contexts: three, two, one and one; each has evidence of its own."""
    made = list(samples)
    for index, question, box in ((0, "find red-disk", 1), (0, "what is next to the blue-star", 2), (2, "find it", 0)):
        about = samples[index]
        piece = Evidence(kind="box", image=0, box=(32.0 * box, 32.0, 32.0 * box + 32.0, 64.0))
        made.append(replace(about, sample_id=f"{about.sample_id}-{box}", question=question, evidence=(piece,)))
    return made


@pytest.fixture(scope="module")
def trials(replica, asked, config):
    return [prepare(replica, sample, config=config) for sample in asked]


def measure(replica, trials, config, *, share):
    return observe(replica, trials, config=config.capture.model_copy(update={"share_context": share}))


def test_equal_to_the_unshared_result(replica, trials, config):
    assert [len(context.trials) for context in find_contexts(replica, trials)] == [3, 1, 2, 1]
    shared, alone = (measure(replica, trials, config, share=share) for share in (True, False))
    for one, other in zip(shared, alone, strict=True):
        assert (one.sample_id, one.region_counts) == (other.sample_id, other.region_counts)
        for group in QUERY_GROUPS:
            for column in COLUMNS:
                left, right = getattr(one.groups[group], column), getattr(other.groups[group], column)
                assert (left is None) == (right is None) == (column == "mass_evidence_null" and group != "question")
                if left is not None:
                    assert np.abs(left - right).max() < 1e-5, (one.sample_id, group, column)


def test_questions_about_one_context_differ(replica, trials, config):
    """Twin: were evidence or question of a neighbour taken, the comparison above would have to notice."""
    first, second, third = (measure(replica, trials, config, share=True)[index] for index in (0, 4, 5))
    for one, other in ((first, second), (second, third)):
        assert np.abs(one.groups["question"].mass[..., 0] - other.groups["question"].mass[..., 0]).max() > 1e-3
        nulls = [result.groups["question"].mass_evidence_null for result in (one, other)]
        assert np.abs(nulls[0] - nulls[1]).max() > 1e-3  # the same rows, but other evidence


def test_each_image_is_seen_once(replica, trials, config):
    seen = []
    handle = replica.model.base_model.visual.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    try:
        measure(replica, trials, config, share=True)
        shared, seen[:] = list(seen), []
        measure(replica, trials, config, share=False)
    finally:
        handle.remove()
    assert shared == [4]
    assert seen == [7]  # twin: unshared once for every question, though not once more for the null questions


def test_order_and_company_do_not_matter(replica, trials, config):
    whole = measure(replica, trials, config, share=True)
    order = [5, 3, 0, 6, 2, 4, 1]
    for index, result in zip(order, measure(replica, [trials[i] for i in order], config, share=True), strict=True):
        assert result.sample_id == whole[index].sample_id
        assert np.abs(result.groups["last"].mass - whole[index].groups["last"].mass).max() < 1e-5


def test_question_first_shares_nothing(replica, asked, config):
    first = config.model_copy(update={"prompt": config.prompt.model_copy(update={"order": "question_first"})})
    trials = [prepare(replica, sample, config=first) for sample in asked[:2]]
    assert find_contexts(replica, trials) == []
    assert all(result.groups["last"].mass.shape[0] == 2 for result in observe(replica, trials, config=first.capture))


def test_one_prompt_alone_shares_nothing(replica, asked, config):
    capture = config.capture.model_copy(update={"calibrate": False})
    trial = prepare(replica, asked[3], config=config.model_copy(update={"capture": capture}))
    assert find_contexts(replica, [trial]) == []


def test_text_context(replica, asked, config):
    """No image at all: positions are those of text."""
    context = (ContextPart(kind="text", text="red-disk blue-star "),)
    piece = Evidence(kind="text", part=0, start=0, stop=8)
    texts = [
        replace(asked[0], sample_id=f"t{n}", context=context, images=(), question=question, evidence=(piece,))
        for n, question in enumerate(("find red-disk", "what is next to the blue-star"))
    ]
    trials = [prepare(replica, sample, config=config) for sample in texts]
    assert len(find_contexts(replica, trials)) == 1
    shared, alone = (measure(replica, trials, config, share=share) for share in (True, False))
    for one, other in zip(shared, alone, strict=True):
        assert np.abs(one.groups["question"].mass - other.groups["question"].mass).max() < 1e-5
        assert not torch.tensor(one.groups["question"].mass).isnan().any()
