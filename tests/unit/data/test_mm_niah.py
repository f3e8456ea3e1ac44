"""MM-NIAH in its published layout."""

from __future__ import annotations

import pytest

from rampipe.errors import DataError, SampleError
from rampipe.types import ContextPart, Evidence
from tests.unit.data.made import errors_of, picture, put, read_all, samples_of, source_of

META = {"placed_depth": [0.5], "context_length": 1000, "num_images": 2, "needles": [], "choices": None}


def line(index=0, *, meta=None, **changes):
    return {
        "id": index,
        "images_list": ["obelics/0.jpg", "obelics/1.jpg"],
        "context": "A walk. <image>The key is oak.<image>",
        "question": "What is the key?",
        "answer": "oak",
        "meta": {**META, "choices_image_path": None, **(meta or {})},
        **changes,
    }


def write(folder, lines, *, task="retrieval-text", split="val"):
    put(folder / f"mm_niah_{split}/annotations/{task}.jsonl", lines)
    for name in ("obelics/0.jpg", "obelics/1.jpg", "needles/a.png", "needles/b.png"):
        put(folder / f"mm_niah_{split}/images" / name, picture())


def test_text_needle_is_its_characters_in_the_interleaved_document(tmp_path):
    write(tmp_path, [line(meta={"needles": ["The key is oak."]})])
    source = source_of(tmp_path, "mm_niah")
    assert [shard.path for shard in source.shards()] == ["val-retrieval-text.jsonl"]
    (sample,) = samples_of(source)
    assert sample.sample_id == "val/retrieval-text/0"
    assert sample.context == (
        ContextPart(kind="text", text="A walk. "),
        ContextPart(kind="image", image=0),
        ContextPart(kind="text", text="The key is oak."),
        ContextPart(kind="image", image=1),
    )
    assert sample.evidence == (Evidence(kind="text", part=2, start=0, stop=15),)
    assert sample.answers == ("oak",)


def test_a_needle_that_stands_twice_is_found_twice_and_one_that_does_not_is_none(tmp_path):
    write(tmp_path, [line(context="a key, a key <image><image>", meta={"needles": ["a key", "a lock"]})])
    (sample,) = samples_of(source_of(tmp_path, "mm_niah"))
    assert [(piece.start, piece.stop) for piece in sample.evidence] == [(0, 5), (7, 12)]


def test_image_needle_is_its_image_and_choices_are_lettered(tmp_path):
    meta = {"needles": ["obelics/1.jpg"], "choices": ["a dog", "a cat"]}
    write(tmp_path, [line(answer=1, meta=meta)], task="retrieval-image")
    (sample,) = samples_of(source_of(tmp_path, "mm_niah"))
    assert sample.evidence == (Evidence(kind="image", image=1),)
    assert (sample.choices, sample.answers) == (("a dog", "a cat"), ("B",))
    assert "A. a dog\nB. a cat\n" in sample.question


def test_images_of_question_and_options_follow_the_document(tmp_path):
    meta = {"choices_image_path": ["needles/a.png", "needles/b.png"], "needles": ["obelics/0.jpg"]}
    asked = line(context="A walk. <image>", question="Which fits <image>?", answer=0, meta=meta)
    write(tmp_path, [asked], task="reasoning-image")
    (sample,) = samples_of(source_of(tmp_path, "mm_niah"))
    assert [(part.text or "").strip() or part.image for part in sample.context] == [
        *("A walk.", 0, "Image 1:", 1, "Option A:", 2, "Option B:", 3)
    ]
    assert sample.question.startswith("Which fits Image 1?\nAnswer with the option's letter")
    assert (sample.choices, sample.answers, sample.evidence) == (
        ("A", "B"),
        ("A",),
        (Evidence(kind="image", image=0),),
    )


def test_an_image_that_only_the_question_shows_is_no_evidence(tmp_path):
    asked = line(context="A walk. <image>", question="Which fits <image>?", meta={"needles": ["obelics/1.jpg"]})
    write(tmp_path, [asked], task="counting-image")
    assert samples_of(source_of(tmp_path, "mm_niah"))[0].evidence == ()


def test_counts_are_one_list_and_withheld_answers_are_none(tmp_path):
    write(tmp_path, [line(0, answer=[1, 2]), line(1, answer=None)], task="counting-text", split="test")
    assert [sample.answers for sample in samples_of(source_of(tmp_path, "mm_niah"))] == [("[1, 2]",), ()]


def test_missing_image_and_missing_slot_cost_their_samples(tmp_path):
    gone = ["obelics/0.jpg", "obelics/9.jpg"]
    write(tmp_path, [line(0), line(1, images_list=gone), line(2, context="no slot"), line(3, images_list=["../x"] * 2)])
    source = source_of(tmp_path, "mm_niah")
    codes = [error and error.code for error in errors_of(source)]
    assert codes == [None, "image_missing", "bad_row", "bad_row"]
    assert isinstance(read_all(source)[3].sample, SampleError)
    assert "outside the dataset's folder" in str(errors_of(source)[3])


def test_a_broken_line_and_an_id_that_occurs_twice_stop_the_plan(tmp_path):
    write(tmp_path, [line(0), line(0)])
    with pytest.raises(DataError, match="'val/retrieval-text/0' occurs twice"):
        source_of(tmp_path, "mm_niah").shards()
    put(tmp_path / "mm_niah_val/annotations/retrieval-text.jsonl", '{"id": 1}\n')
    with pytest.raises(DataError, match=r"retrieval-text.jsonl line 1: no key \['images_list'"):
        source_of(tmp_path, "mm_niah").shards()
