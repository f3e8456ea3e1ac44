"""Haystacks: the needle at its depth, its evidence with it, the same bytes from the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rampipe.cli import main
from rampipe.data.haystack import HaystackMaker, TokenBudget, collect_pool
from rampipe.errors import DataError, SampleError
from rampipe.tables.shards import write_shards
from rampipe.types import ContextPart, Evidence, Sample, StoredImage
from tests.unit.data.made import picture, samples_of, source_of


def make_sample(index: int, **changes) -> Sample:
    sample = Sample(
        sample_id=f"id-{index}",
        domain="receipt",
        context=(ContextPart("text", text="A receipt: "), ContextPart("image", image=0)),
        images=(StoredImage(bytes=picture(20 + index, 30), path=f"{index}.png"),),
        question="What is the total?",
        answers=("1",),
        choices=None,
        evidence=(Evidence("box", image=0, box=(1.0, 2.0, 3.0, 4.0)), Evidence("text", part=0, start=2, stop=9)),
    )
    return replace(sample, **changes)


SAMPLES = [make_sample(index) for index in range(12)]


def maker(*, size=4, seed=0, samples=SAMPLES) -> HaystackMaker:
    return HaystackMaker(collect_pool(samples, max_images=100), size=size, seed=seed)


def tokens(sample: Sample) -> int:
    """A model of 100 tokens an image and one a character."""
    return 100 * len(sample.images) + len(sample.question) + sum(len(part.text or "") for part in sample.context)


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_the_needle_lies_at_its_depth_and_its_evidence_with_it(depth, place):
    sample = maker().make(SAMPLES[3], depth=depth)
    assert len(sample.images) == 5
    assert sample.images[place] == SAMPLES[3].images[0]
    assert sample.images.count(SAMPLES[3].images[0]) == 1
    box, text = sample.evidence
    assert (box.image, box.box) == (place, (1.0, 2.0, 3.0, 4.0))
    part = sample.context[text.part]
    assert part.text[text.start : text.stop] == "receipt"
    assert sample.context[text.part - 1].text == f"Image {place + 1}: "
    assert sample.context[text.part + 1].image == place
    assert sample.question == f"About image {place + 1}: What is the total?"


def test_all_images_are_numbered_in_order():
    sample = maker().make(SAMPLES[3], depth=0.5)
    shown = [part.image for part in sample.context if part.kind == "image"]
    labels = [part.text for part in sample.context if part.text and part.text.startswith("Image")]
    assert shown == [0, 1, 2, 3, 4]
    assert labels == [f"Image {number}: " for number in range(1, 6)]


def test_seed_and_sample_decide_the_distractors():
    one = maker().make(SAMPLES[3], depth=0.5)
    assert maker(samples=SAMPLES[::-1]).make(SAMPLES[3], depth=0.5) == one
    assert maker(seed=1).make(SAMPLES[3], depth=0.5).images != one.images
    assert set(maker().make(SAMPLES[4], depth=0.5).images) != set(one.images)
    assert set(maker().make(SAMPLES[3], depth=1.0).images) == set(one.images)


def test_questions_on_one_image_do_not_make_it_a_distractor_of_itself():
    twins = [make_sample(0), make_sample(0, sample_id="other"), make_sample(1)]
    sample = maker(samples=twins, size=1).make(twins[0], depth=0.0)
    assert [image.path for image in sample.images] == ["0.png", "1.png"]


def test_a_budget_is_filled_and_never_passed():
    for num_tokens in (400, 700, 1000):
        sample = maker(size=TokenBudget(num_tokens, tokens)).make(SAMPLES[3], depth=1.0)
        assert num_tokens - 100 - 40 < tokens(sample) <= num_tokens
    with pytest.raises(SampleError, match="153 tokens alone, 150 asked for") as caught:
        maker(size=TokenBudget(150, tokens)).make(SAMPLES[3], depth=1.0)
    assert caught.value.code == "haystack_too_small"
    with pytest.raises(DataError, match="10000 tokens asked for: all 11 other images leave"):
        maker(size=TokenBudget(10000, tokens)).make(SAMPLES[3], depth=1.0)


def test_too_few_images_a_wrong_depth_and_several_images_are_refused():
    with pytest.raises(DataError, match="12 distractors asked for, 11 other images"):
        maker(size=12).make(SAMPLES[3], depth=0.5)
    with pytest.raises(DataError, match=r"depth 1\.5: not between"):
        maker().make(SAMPLES[3], depth=1.5)
    two = make_sample(0, images=(*SAMPLES[0].images, *SAMPLES[1].images))
    with pytest.raises(SampleError, match="has 2 images, not one"):
        maker().make(two, depth=0.5)
    with pytest.raises(DataError, match="no sample with one image"):
        collect_pool([two], max_images=9)


def run(folder, out, *flags) -> int:
    return main(["data", "haystack", str(folder / "samples"), str(folder / out), *flags])


def test_the_command_writes_native_shards_that_repeat_bit_for_bit(tmp_path, capsys):
    bad = make_sample(99, evidence=(Evidence("image", image=4),))
    write_shards([*SAMPLES, bad], tmp_path / "samples", split="eval", rows_per_shard=5)
    for out in ("a", "b"):
        assert run(tmp_path, out, "--distractors", "3", "--depths", "0,1", "--seed", "7") == 0
    printed = capsys.readouterr().out
    assert "samples: 24 written to" in printed
    assert "skipped, bad_row: 1" in printed
    made = samples_of(source_of(tmp_path / "a", "samples"))
    assert [sample.sample_id for sample in made[:3]] == ["id-0@3-0-7", "id-0@3-1-7", "id-1@3-0-7"]
    assert made[1].evidence[0].image == 3
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert run(tmp_path, "a", "--distractors", "3") == 2
    assert "holds shards of split 'haystack' already" in capsys.readouterr().err


def test_limit_keeps_distractors_of_the_whole_split(tmp_path, capsys):
    write_shards(SAMPLES, tmp_path / "samples", split="eval")
    assert run(tmp_path, "few", "--distractors", "11", "--limit", "2") == 0
    assert "samples: 2 written" in capsys.readouterr().out


def test_a_wrong_command_line_is_the_users_mistake(tmp_path, capsys):
    write_shards(SAMPLES, tmp_path / "samples", split="eval")
    assert run(tmp_path, "out", "--tokens", "8192") == 2
    assert "--tokens needs --model" in capsys.readouterr().err
    for flags in ([], ["--distractors", "0"], ["--distractors", "2", "--tokens", "9"], ["--depths", "x"]):
        with pytest.raises(SystemExit) as caught:
            run(tmp_path, "out", *flags)
        assert caught.value.code == 2
    capsys.readouterr()


def test_a_models_own_processor_and_tokenizer_count(tmp_path):
    # Loads torch: only this test of the folder does.
    from rampipe.data.token_count import TokenCounter
    from rampipe.testbed.checkpoint import weights_path
    from rampipe.testbed.random_model import write_random_model

    write_random_model(tmp_path, tokenizer_folder=weights_path(), hidden=32, num_layers=1)
    counter = TokenCounter(str(tmp_path))
    samples = [make_sample(index, images=(image(20 * index + 56),)) for index in range(6)]
    making = maker(size=TokenBudget(60, counter), samples=samples)
    made = making.make(samples[0], depth=1.0)
    assert 60 - 32 < counter(made) <= 60
    assert len(made.images) > 1


def image(width: int) -> StoredImage:
    return StoredImage(bytes=picture(width, 56), path=f"{width}.png")
