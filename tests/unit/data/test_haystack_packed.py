"""Packed haystacks: every needle once, in a context that it shares with the others."""

from __future__ import annotations

from itertools import chain

import pytest

from rampipe.cli import main
from rampipe.data.haystack import HaystackReport, TokenBudget
from rampipe.data.haystack_packed import pack
from rampipe.errors import DataError
from rampipe.tables.shards import write_shards
from rampipe.trials.context import context_key
from rampipe.types import ContextPart, Evidence
from tests.unit.data.made import samples_of, source_of
from tests.unit.data.test_haystack import make_sample, tokens

ALONE = (ContextPart("image", image=0),)
SAMPLES = [
    make_sample(
        index, sample_id=f"{index}-{word}", question=word, context=(ContextPart("image", image=0),), evidence=()
    )
    for index in range(10)
    for word in ("Total?", "On which date was it issued?")
]


def packed(samples=SAMPLES, *, size=3, seed=0):
    report = HaystackReport(num_images=0)
    return list(chain.from_iterable(pack(samples, size=size, seed=seed, report=report))), report


def test_every_sample_is_asked_once_and_those_of_a_context_stand_together():
    made, _ = packed()
    assert sorted(sample.sample_id.split("@")[0] for sample in made) == sorted(one.sample_id for one in SAMPLES)
    keys = [context_key(sample) for sample in made]
    assert len(set(keys)) == 3  # 10 images, 4 a context
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [8, 8, 4]
    assert keys == sorted(keys, key=list(dict.fromkeys(keys)).index)
    assert {len(sample.images) for sample in made} == {4}


def test_the_question_names_the_image_that_is_its_own():
    images = {one.sample_id: one.images[0] for one in SAMPLES}
    made, _ = packed()
    for sample in made:
        number = int(sample.question.split()[2].rstrip(":"))
        assert sample.images[number - 1] == images[sample.sample_id.split("@")[0]]
    assert {int(sample.question.split()[2].rstrip(":")) for sample in made} == {1, 2, 3, 4}


def test_evidence_moves_with_its_image():
    one = make_sample(0, sample_id="a", context=ALONE, evidence=(Evidence("image", image=0),))
    for seed in range(4):
        made, _ = packed([one, *SAMPLES[2:]], seed=seed)
        (needle,) = [sample for sample in made if sample.sample_id.startswith("a@")]
        assert needle.images[needle.evidence[0].image] == one.images[0]


def test_the_seed_decides_what_lies_together():
    assert [context_key(sample) for sample in packed()[0]] != [context_key(sample) for sample in packed(seed=1)[0]]


@pytest.mark.parametrize("num_tokens", [400, 640, 900])
def test_a_budget_is_filled_and_never_passed_by_the_longest_question(num_tokens):
    made, _ = packed(size=TokenBudget(num_tokens, tokens))
    assert num_tokens - 160 < max(tokens(sample) for sample in made) <= num_tokens
    assert len(made) == len(SAMPLES)


def test_what_cannot_be_a_needle_is_counted():
    two = make_sample(0, images=(*SAMPLES[0].images, *SAMPLES[3].images))
    long = make_sample(7, question="?" * 500)
    made, report = packed([*SAMPLES, two, long], size=TokenBudget(500, tokens))
    assert report.skipped == {"not_single_image": 1, "haystack_too_small": 1}
    assert len(made) == len(SAMPLES)


@pytest.mark.parametrize("size", [10, TokenBudget(5000, tokens)])
def test_too_few_images_for_one_context_are_refused(size):
    assert len({len(sample.images) for sample in packed(size=9)[0]}) == 1
    with pytest.raises(DataError, match="all 10 images together do not fill one context"):
        packed(size=size)


def test_the_command_writes_what_repeats_bit_for_bit(tmp_path, capsys):
    write_shards(SAMPLES, tmp_path / "samples", split="eval")
    for out in ("a", "b"):
        flags = ["--packed", "--distractors", "3"]
        assert main(["data", "haystack", str(tmp_path / "samples"), str(tmp_path / out), *flags]) == 0
    assert "samples: 20 written" in capsys.readouterr().out
    source = source_of(tmp_path / "a", "samples")
    assert len(samples_of(source)) == 20
    assert [shard.num_rows for shard in source.shards()] == [8, 8, 4]  # a shard a context
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    wrong = ["data", "haystack", str(tmp_path / "samples"), "x", "--packed", "--distractors", "3", "--depths", "1"]
    assert main(wrong) == 2
    assert "--packed and --depths" in capsys.readouterr().err
