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
    samples = samples_of(source_of(tmp_path, "mmlongbench", split="mm_niah_retrieval-text/8k"))
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


RENDERED = "mm_niah_retrieval-text-rendered/8k"


def test_a_rendered_needle_is_a_picture_behind_its_paragraph_and_no_text(tmp_path):
    first = {"type": "text", "text": "Begin. The key is oak."}
    write(tmp_path, [line(), line(ctxs=[first, *line()["ctxs"][:2]])], file="retrieval-text_test_K8_dep6.jsonl")
    late, early = samples_of(source_of(tmp_path, "mmlongbench", split=RENDERED))
    assert [part.text or part.image for part in late.context] == ["A walk.\n\n", 0, "\n\nTrees.\n\n", 1]
    assert late.evidence == (Evidence(kind="image", image=1),)
    assert [part.text or part.image for part in early.context] == ["Begin.\n\n", 0, "\n\nA walk.\n\n", 1]
    assert early.evidence == (Evidence(kind="image", image=0),)
    assert [image.path for image in early.images] == [
        *("mmlb_image/mm-niah/text_needle_image/the_key_is_oak.png", "mmlb_image/mm-niah/obelics/0.jpg")
    ]
    assert (late.sample_id, late.domain) == (f"{RENDERED}/mm-niah-0/0", "retrieval-text-rendered")
    assert not any("oak" in (part.text or "") for part in (*late.context, *early.context))


def test_published_pictures_are_taken_and_a_missing_one_is_not_made_up(tmp_path):
    write(
        tmp_path,
        [line(), line(positive_ctxs=[{"type": "text", "text": "Trees."}])],
        file="retrieval-text_test_K8_dep6.jsonl",
    )
    put(tmp_path / "mmlb_image/mm-niah/text_needle_image/the_key_is_oak.png", picture(50, 20))
    source = source_of(tmp_path, "mmlongbench", split=RENDERED)
    taken, missing = (result.sample for shard in source.shards() for result in source.read(shard.path, 0, 2))
    assert taken.images[1].bytes == picture(50, 20)
    assert missing.code == "image_missing"


def test_lines_without_one_text_needle_have_no_rendered_evidence(tmp_path):
    two = [*line()["positive_ctxs"], {"type": "text", "text": "A walk."}]
    write(tmp_path, [line(positive_ctxs=two), line(positive_ctxs=None)], file="retrieval-text_test_K8_dep6.jsonl")
    samples = samples_of(source_of(tmp_path, "mmlongbench", split=RENDERED))
    assert [sample.evidence for sample in samples] == [(), ()]


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
    for file in ("reasoning-text_test_K8_dep3.jsonl", "reasoning-text_test_K128_dep3.jsonl"):
        write(tmp_path, [line()], file=file)
    for file in ("vh_single_test_1000_K8_dep6.jsonl", "text-haystack_retrieval-image_test_K8_dep6.jsonl"):
        write(tmp_path, "not read", file=file)
    assert len(source_of(tmp_path, "mmlongbench").shards()) == 2
    (shard,) = source_of(tmp_path, "mmlongbench", split="mm_niah_reasoning-text/128k").shards()
    assert shard.path == "mmlb_data/NIAH/reasoning-text_test_K128_dep3.jsonl"
    with pytest.raises(DataError, match=r"only \['mm_niah_reasoning-text/128k', 'mm_niah_reasoning-text/8k'\]"):
        source_of(tmp_path, "mmlongbench", split="mm_niah_reasoning-text/9k").shards()


def test_what_does_not_fit_costs_its_samples(tmp_path):
    lines = [image_line(), image_line(image_list=["mm-niah/none.jpg"]), image_line(image_list=[]), image_line(answer=2)]
    write(tmp_path, lines)
    codes = [error and error.code for error in errors_of(source_of(tmp_path, "mmlongbench"))]
    assert codes == [None, "image_missing", "bad_row", "bad_row"]
