"""MMLongBench's needles in their published layout."""

from __future__ import annotations

import pytest

from rampipe.errors import DataError
from rampipe.types import ContextPart, Evidence
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def line(needle="mm-niah-0", **changes):
    return {
        "id": needle,
        "depth": 0.5,
        "question": "What is the key?",
        "answer": "oak",
        "ctxs": [
            {"type": "text", "text": "A walk.", "len": 3},
            {"type": "image", "text": "<image>", "len": 9},
            {"type": "text", "text": "Trees. The key is oak.", "len": 8, "has_answer": True},
        ],
        "positive_ctxs": [{"type": "text", "text": "The key is oak.", "len": 6}],
        "image_list": ["mm-niah/obelics/0.jpg"],
        **changes,
    }


def image_line(needle="mm-niah-0", **changes):
    options = ["mm-niah/needles/a.png", "mm-niah/needles/b.png"]
    positive = [{"type": "image", "text": "<image>", "image": "obelics/0.jpg"}]
    asked = {"question": "Which one was shown?", "answer": 1, "choices_image": options, "positive_ctxs": positive}
    return line(needle, **{**asked, **changes})


def write(folder, lines, *, file="retrieval-image_test_K32_dep6.jsonl"):
    put(folder / "mmlb_data/NIAH" / file, lines)
    for name in ("obelics/0.jpg", "needles/a.png", "needles/b.png"):
        put(folder / "mmlb_image/mm-niah" / name, picture())


def test_text_needle_is_its_characters_and_lines_of_one_needle_are_numbered(tmp_path):
    write(tmp_path, [line(), line(), line("mm-niah-1")], file="retrieval-text_test_K8_dep6.jsonl")
    samples = samples_of(source_of(tmp_path, "mmlongbench"))
    root = "mm_niah_retrieval-text/8k"
    assert [sample.sample_id for sample in samples] == [
        f"{root}/mm-niah-0/0",
        f"{root}/mm-niah-0/1",
        f"{root}/mm-niah-1/0",
    ]
    assert samples[0].context == (
        ContextPart(kind="text", text="A walk.\n\n"),
        ContextPart(kind="image", image=0),
        ContextPart(kind="text", text="\n\nTrees. The key is oak."),
    )
    assert samples[0].evidence == (Evidence(kind="text", part=2, start=9, stop=24),)
    assert (samples[0].answers, samples[0].choices, samples[0].domain) == (("oak",), None, "retrieval-text")


def test_image_needle_is_its_image_and_options_follow_the_document(tmp_path):
    write(tmp_path, [image_line()])
    (sample,) = samples_of(source_of(tmp_path, "mmlongbench"))
    assert sample.evidence == (Evidence(kind="image", image=0),)
    assert [(part.text or "").strip() or part.image for part in sample.context] == [
        *("A walk.", 0, "Trees. The key is oak.", "Option A:", 1, "Option B:", 2)
    ]
    assert (sample.choices, sample.answers) == (("A", "B"), ("B",))


def test_a_needle_that_is_not_shown_is_no_evidence(tmp_path):
    option = [{"type": "image", "text": "<image>", "image": "needles/b.png"}]
    write(tmp_path, [image_line(positive_ctxs=option), image_line(positive_ctxs=None)])
    assert [sample.evidence for sample in samples_of(source_of(tmp_path, "mmlongbench"))] == [(), ()]


def test_counting_shows_its_images_behind_the_document_and_answers_one_list(tmp_path):
    asked = line(question="How often <image>?", answer=[1, 2], needle_image_list=["mm-niah/needles/a.png"])
    write(tmp_path, [asked], file="counting-image_test_K8_dep3.jsonl")
    (sample,) = samples_of(source_of(tmp_path, "mmlongbench"))
    assert (sample.context[-1].image, sample.answers) == (1, ("[1, 2]",))
    assert sample.question.startswith("How often Image 1?\n")


def test_any_of_several_texts_is_an_answer(tmp_path):
    write(tmp_path, [line(answer=["oak", "an oak"])], file="reasoning-text_test_K8_dep3.jsonl")
    assert samples_of(source_of(tmp_path, "mmlongbench"))[0].answers == ("oak", "an oak")


def test_a_split_is_one_task_at_one_length_and_other_files_are_not_read(tmp_path):
    for file in ("retrieval-text_test_K8_dep6.jsonl", "retrieval-text_test_K128_dep6.jsonl"):
        write(tmp_path, [line()], file=file)
    for file in ("vh_single_test_1000_K8_dep6.jsonl", "text-haystack_retrieval-image_test_K8_dep6.jsonl"):
        write(tmp_path, "not read", file=file)
    assert len(source_of(tmp_path, "mmlongbench").shards()) == 2
    (shard,) = source_of(tmp_path, "mmlongbench", split="mm_niah_retrieval-text/128k").shards()
    assert shard.path == "mmlb_data/NIAH/retrieval-text_test_K128_dep6.jsonl"
    with pytest.raises(DataError, match=r"only \['mm_niah_retrieval-text/128k', 'mm_niah_retrieval-text/8k'\]"):
        source_of(tmp_path, "mmlongbench", split="mm_niah_retrieval-text/9k").shards()


def test_what_does_not_fit_costs_its_samples(tmp_path):
    lines = [image_line(), image_line(image_list=["mm-niah/none.jpg"]), image_line(image_list=[]), image_line(answer=2)]
    write(tmp_path, lines)
    codes = [error and error.code for error in errors_of(source_of(tmp_path, "mmlongbench"))]
    assert codes == [None, "image_missing", "bad_row", "bad_row"]
