"""MMLongBench-Doc in its published layout, with pages as its own script renders them."""

from __future__ import annotations

import json

from rampipe.types import Evidence
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def entry(**changes):
    return {
        "doc_id": "Report.v2.pdf",
        "doc_type": "Guidebook",
        "question": "What is the share?",
        "answer": "18.29%",
        "evidence_pages": "[2]",
        "evidence_sources": "['Chart']",
        "answer_format": "Float",
        **changes,
    }


def write(folder, entries):
    put(folder / "data/samples.json", json.dumps(entries))
    for page in (1, 2, 10):
        put(folder / f"tmp/Report.v2_{page}.png", picture(40 + page, 30))


def test_rendered_pages_up_to_the_first_gap(tmp_path):
    write(tmp_path, [entry(), entry(evidence_pages="[]", answer="Not answerable")])
    first, second = samples_of(source_of(tmp_path, "mmlongbench_doc"))
    assert [image.path for image in first.images] == ["tmp/Report.v2_1.png", "tmp/Report.v2_2.png"]
    assert first.evidence == (Evidence(kind="image", image=1),)
    assert (second.evidence, second.sample_id) == ((), "0001/Report.v2.pdf")


def test_evidence_beyond_the_rendered_pages_and_unrendered_documents_are_errors(tmp_path):
    write(tmp_path, [entry(evidence_pages="[10]"), entry(doc_id="other.pdf"), entry(evidence_pages="two")])
    errors = errors_of(source_of(tmp_path, "mmlongbench_doc"))
    assert [error and error.code for error in errors] == ["bad_row", "image_missing", "bad_row"]
    assert "page 10 of 2" in str(errors[0])
