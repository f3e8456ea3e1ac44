"""Copying, hits in boxes and mass on the largest keys, against loops over eager attention of each sample alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rampipe.config import ModelConfig, RunConfig
from rampipe.models.loading import load_replica
from rampipe.models.prompts import collate
from rampipe.tables.rows import head_stats_table, samples_table
from rampipe.trials.observe import observe
from rampipe.trials.trial import prepare
from rampipe.types import REGIONS, ContextPart, Evidence, Sample
from tests.families.text import write_text

EVIDENCE = REGIONS.index("evidence")
CELL_PX = 32.0


def measured(replica, samples, config, **changes):
    capture = config.capture.model_copy(update={"peer_scores": True, **changes})
    changed = config.model_copy(update={"capture": capture})
    trials = [prepare(replica, sample, config=changed) for sample in samples]
    return trials, observe(replica, trials, config=capture)


def eager_rows(eager, prompt):
    """Probabilities [layer, head, answer row, key] of one prompt alone, and the token that each row predicts."""
    with torch.inference_mode():
        output = eager.model(**collate(eager, [prompt]).inputs, output_attentions=True, use_cache=False)
    rows = range(prompt.num_prompt_tokens - 1, len(prompt.input_ids) - 1)
    attention = torch.stack(output.attentions)[:, 0].double()[:, :, list(rows)]
    return attention, [int(prompt.input_ids[row + 1]) for row in rows]


def each_head(attention, score):
    """score: of one head's rows, each a list of shares by key."""
    return np.array([[score(head.tolist()) for head in layer] for layer in attention])


def largest(row):
    return max(range(len(row)), key=row.__getitem__)


def top_mass(rows, places):
    """HeadKV: of the n largest keys, the attention on those in the needle."""
    ranked = [sorted(range(len(row)), key=lambda key: -row[key])[: len(places)] for row in rows]
    return np.mean([sum(row[key] for key in first if key in places) for row, first in zip(rows, ranked, strict=True)])


def copied(rows, ids, places, targets):
    """Retrieval_Head: distinct tokens of the needle that were the largest key and the next token at once."""
    found = {
        target
        for row, target in zip(rows, targets, strict=True)
        if (key := largest(row)) in places and ids[key] == target
    }
    return len(found) / len({ids[place] for place in places})


def box_hits(rows, boxes):
    """SparseMM: each step whose largest key lies in a box, 1 over the box's patches; boxes: sets of keys."""
    scores = [[1 / len(box) for box in boxes if largest(row) in box] for row in rows]
    return np.mean([max(score, default=0.0) for score in scores])


@pytest.fixture(scope="module")
def eager(checkpoint):
    return load_replica(ModelConfig(path=str(checkpoint), dtype="float32", attention="eager"), device="cpu", threads=1)


@pytest.fixture(scope="module")
def boxed(samples):
    """Evidence in boxes of unlike sizes: a cell, two others in a row, and one around the first and its neighbour."""

    def box(x0, y0, x1, y1):
        return Evidence(kind="box", image=0, box=tuple(CELL_PX * side for side in (x0, y0, x1, y1)))

    pieces = (box(0, 0, 2, 1), box(0, 0, 1, 1), box(0, 1, 2, 2))
    return [replace(sample, evidence=pieces, answers=("2 5 1 7 2",)) for sample in samples]


def boxes_of(prompt):
    """The same boxes as keys, by hand: visual tokens of a grid, row by row."""
    keys = prompt.visual_positions.tolist()
    x, y = (prompt.token_boxes[:, side].div(CELL_PX).floor().tolist() for side in (0, 1))
    cells = {(int(a), int(b)): key for key, a, b in zip(keys, x, y, strict=True)}
    return [{cells[0, 0], cells[1, 0]}, {cells[0, 0]}, {cells[0, 1], cells[1, 1]}]


@pytest.mark.parametrize("changes", [{}, {"share_context": False}, {"backend": "dense"}], ids=str)
def test_boxes_against_loops_over_eager_attention(replica, eager, boxed, config, changes):
    trials, results = measured(replica, boxed, config, **changes)
    seen = []
    for trial, result in zip(trials, results, strict=True):
        group, boxes = result.groups["answer"], boxes_of(trial.prompt)
        attention, targets = eager_rows(eager, trial.prompt)
        places = (trial.prompt.regions == EVIDENCE).nonzero().flatten().tolist()
        assert {*places} == set().union(*boxes)
        assert result.num_answer == len(targets)
        expected = each_head(attention, partial(box_hits, boxes=boxes))
        assert np.abs(group.hit_per_patch - expected).max() < 1e-6
        assert np.abs(group.mass_evidence_top - each_head(attention, partial(top_mass, places=places))).max() < 1e-5
        assert group.copied is None
        seen += [expected, np.abs(group.mass_evidence_top - group.mass[..., EVIDENCE]).max()]
    assert max(np.max(found) for found in seen[::2]) > 0.1, "no head looks at a box: the comparison says nothing"
    assert max(seen[1::2]) > 1e-2, "all evidence is always among the largest keys"


def test_only_answer_rows_have_them_and_only_when_asked(replica, boxed, config):
    _, results = measured(replica, boxed[:1], config)
    for query, group in results[0].groups.items():
        assert (group.hit_per_patch is None) == (group.mass_evidence_top is None) == (query != "answer")
    table = head_stats_table(results).to_pylist()
    assert all((row["mass_evidence_top"] is None) == (row["query"] != "answer") for row in table)
    assert all(row["copied"] is None for row in table)
    assert samples_table(results)["num_answer"].to_pylist() == [results[0].num_answer]
    _, plain = measured(replica, boxed[:1], config, peer_scores=False)
    assert plain[0].groups["answer"].mass_evidence_top is None
    assert np.array_equal(plain[0].groups["answer"].mass, results[0].groups["answer"].mass)


def test_without_evidence_there_is_nothing(replica, samples, config):
    _, results = measured(replica, [replace(samples[0], evidence=())], config)
    assert set(head_stats_table(results)["mass_evidence_top"].to_pylist()) == {None}


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    write_text(folder, name="Llama", num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, hidden_size=64)
    return folder


@pytest.fixture(scope="module")
def text_config(text_folder):
    return RunConfig.model_validate(
        {
            "model": {"path": str(text_folder), "dtype": "float32"},
            "data": {"path": "unused"},
            "capture": {"queries": ["question", "answer"], "calibrate": True},
        }
    )


def text_sample(index):
    """A needle that the answer repeats; a byte is a token, and bytes come again in needle and answer."""
    needle, before, after = ("abacabadabacaba" * 3)[index:], "eeff gghh " * 3, " iijj kkll" * (index + 1)
    start = len(before)
    return Sample(
        sample_id=f"text-{index}",
        domain="text",
        context=(ContextPart(kind="text", text=before + needle + after),),
        images=(),
        question="which letters?",
        answers=(needle[2 + index :],),
        choices=None,
        evidence=(Evidence(kind="text", part=0, start=start, stop=start + len(needle)),),
    )


def test_text_against_loops_over_eager_attention(text_folder, text_config):
    model = {"path": str(text_folder), "dtype": "float32"}
    replica = load_replica(ModelConfig(**model), device="cpu", threads=1)
    eager = load_replica(ModelConfig(**model, attention="eager"), device="cpu", threads=1)
    samples = [text_sample(index) for index in range(3)]
    trials, results = measured(replica, samples, text_config)
    found = []
    for trial, result in zip(trials, results, strict=True):
        ids, group = trial.prompt.input_ids.tolist(), result.groups["answer"]
        attention, targets = eager_rows(eager, trial.prompt)
        places = (trial.prompt.regions == EVIDENCE).nonzero().flatten().tolist()
        expected = each_head(attention, partial(copied, ids=ids, places=places, targets=targets))
        assert np.abs(group.copied - expected).max() < 1e-6
        assert np.abs(group.mass_evidence_top - each_head(attention, partial(top_mass, places=places))).max() < 1e-5
        assert group.hit_per_patch is None
        found.append(expected)
    values = np.unique(np.concatenate(found))
    assert len(values) > 2 and values.max() > 0.2, "no head copies: the comparison says nothing"
    assert any(np.abs(result.groups["answer"].hit - result.groups["answer"].copied).max() > 0.1 for result in results)
