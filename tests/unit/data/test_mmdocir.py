"""MMDocIR in its published layout: annotations a document a line, pages in one Parquet file."""

from __future__ import annotations

import pytest

from rampipe.errors import DataError
from rampipe.types import Evidence
from tests.unit.data.made import errors_of, picture, put, put_table, samples_of, source_of


def question(**changes):
    return {
        "Q": "How many?",
        "A": "8",
        "type": "['Table']",
        "page_id": [1],
        "layout_mapping": [{"page": 1, "page_size": [612.0, 792.0], "bbox": [61.2, 79.2, 306.0, 396.0]}],
        **changes,
    }


def document(name, first, last, questions):
    return {
        "doc_name": name,
        "domain": "Laws",
        "page_indices": [first, last],
        "layout_indices": [0, 9],
        "questions": questions,
    }


def write(folder, *, second=(), pages=5, size=(100, 200)):
    put(
        folder / "MMDocIR_annotations.jsonl",
        [document("b.pdf", 2, 4, list(second)), document("a.pdf", 0, 1, [question(), question(Q="Which?")])],
    )
    rows = [{"doc_name": "x", "passage_id": str(row), "image_binary": page(row, size)} for row in range(pages)]
    put_table(folder / "MMDocIR_pages.parquet", rows, row_group_size=3)


def page(row, size=(100, 200)):
    return picture(*size, form="JPEG", colour=("red", "green", "blue", "black", "white")[row])


def test_pages_of_the_document_and_layouts_in_pixels_of_the_image(tmp_path):
    write(tmp_path, second=[question(page_id=[2, 0], layout_mapping=[])])
    source = source_of(tmp_path, "mmdocir")
    first, again, other = samples_of(source)
    assert [first.sample_id, again.sample_id, other.sample_id] == ["a.pdf/0", "a.pdf/1", "b.pdf/0"]
    assert [image.bytes for image in first.images] == [page(0), page(1)]
    assert [image.bytes for image in other.images] == [page(2), page(3), page(4)]
    assert first.evidence[0].image == 1
    assert first.evidence[0].box == pytest.approx((10.0, 20.0, 50.0, 100.0))
    assert other.evidence == (Evidence(kind="image", image=2), Evidence(kind="image", image=0))
    assert first.answers == ("8",)


def test_boxes_follow_the_size_of_the_image(tmp_path):
    write(tmp_path, size=(306, 396))
    assert samples_of(source_of(tmp_path, "mmdocir"))[0].evidence[0].box == pytest.approx((30.6, 39.6, 153.0, 198.0))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"page_id": [3], "layout_mapping": []}, "bad_row"),
        ({"layout_mapping": [{"page": -1, "page_size": [612, 792], "bbox": [0, 0, 9, 9]}]}, "bad_row"),
        ({"layout_mapping": [{"page": 0, "page_size": [612, 792], "bbox": [90, 0, 9, 9]}]}, "evidence_outside"),
        ({"layout_mapping": [{"page": 0, "page_size": [612, 792], "bbox": [700, 0, 900, 9]}]}, "evidence_outside"),
        ({"layout_mapping": [{"page": 0, "page_size": [0, 792], "bbox": [1, 1, 9, 9]}]}, "bad_row"),
    ],
)
def test_evidence_that_is_nowhere_costs_its_sample(tmp_path, changes, code):
    write(tmp_path, second=[question(**changes)])
    errors = errors_of(source_of(tmp_path, "mmdocir"))
    assert [error and error.code for error in errors] == [None, None, code]


def test_the_digest_covers_pages_and_questions(tmp_path):
    write(tmp_path)
    (before,) = source_of(tmp_path, "mmdocir").shards()
    write(tmp_path, size=(101, 200))
    (other_pages,) = source_of(tmp_path, "mmdocir").shards()
    write(tmp_path, second=[question()])
    (more,) = source_of(tmp_path, "mmdocir").shards()
    assert len({before.digest, other_pages.digest, more.digest}) == 3


def test_fewer_pages_than_promised_stop_the_read(tmp_path):
    write(tmp_path, second=[question()], pages=4)
    source = source_of(tmp_path, "mmdocir")
    with pytest.raises(DataError, match="no row 4, it holds 4"):
        list(source.read(source.shards()[0].path, 0, 3))
