"""Answers before and after, against the outcomes that were judged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rampipe.report.page import write_report
from rampipe.tables.arms import Arm
from rampipe.tables.run import Run
from tests.unit.report.made_ablation import CONFIG, WRONG, answers, publish_ablation, silent
from tests.unit.report.made_run import EVIL, Shape, make_run, publish_examples
from tests.unit.report.made_speed import publish_speed
from tests.unit.report.reading import Page


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, Shape(num_units=1, num_committed=1))


def shown(run: Run) -> Page:
    return Page(Path(write_report(run.storage.uri)).read_text(encoding="utf-8"))


def test_the_first_lost_sample_of_each_domain_and_how_many_it_stands_for(run: Run) -> None:
    publish_ablation(run)
    page = shown(run)
    docs, docs_counts, films, films_counts, control, control_counts = page.table("answers")
    # Sample 0 is wrong as it is; of the even ones 2 to 34 are lost, of the odd ones 1 to 35.
    assert docs == ["docs s0002", "✓ 42", f"✗ {WRONG}", "✓ 42"]
    assert docs_counts == ["17 of 19 right answers are lost without top 5 %", "19 of 20 right", "2 of 20 right",
                           "19 of 20 right"]  # fmt: skip
    assert films == ["films s0001", "✓ 42", f"✗ {WRONG}", f"✗ {WRONG}"]
    assert films_counts[0] == "18 of 20 right answers are lost without top 5 %"
    assert control[0] == "text-only control s0041"
    assert control_counts[0] == "0 of 16 right answers are lost without top 5 %; shown is the first right one"
    assert "Nobody picked these: of each domain, the first sample by id" in page.text("answers")
    assert "No answers with full attention for the top heads alone" in page.text("answers")


def test_another_loss_shows_another_sample(run: Run) -> None:
    """Twin of the choice: it follows the outcomes."""

    def later(arm: Arm, index: int) -> bool:
        return index not in (7, 11) if arm.strategy == "top" else answers(arm, index)

    publish_ablation(run, answer=later)
    cells = [row[0] for row in shown(run).table("answers")]
    assert cells[2:4] == ["films s0007", "2 of 20 right answers are lost without top 5 %"]
    assert cells[1].startswith("0 of 19 right answers are lost without top 5 %")


def test_kept_heads_answer_beside_them(run: Run) -> None:
    publish_ablation(run)
    publish_speed(run)
    page = shown(run)
    docs, counts = page.table("answers")[:2]
    assert docs == ["docs s0002", "✓ 42", f"✗ {WRONG}", "✓ 42", "✓ 42", f"✗ {WRONG}"]
    assert counts[4:] == ["20 of 20 right", "10 of 20 right"]
    assert "only top 10 % full" in page.text("answers")
    assert "No answers with full attention" not in page.text("answers")


def test_question_reference_and_image_where_they_are_known(run: Run) -> None:
    publish_ablation(run)
    publish_examples(run, sample_ids=["s0002"], question=f"{EVIL} total?")
    page = shown(run)
    first, _, second = page.table("answers")[:3]
    assert first[0] == f"docs s0002 {EVIL} total? reference: 28.00"
    assert second[0] == "films s0001"
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"].count(
        "Image of sample s0002, evidence outlined"
    ) == 1
    assert "is named by its id" in page.text("answers")


def test_what_a_model_says_is_text(run: Run) -> None:
    publish_ablation(run, said={True: f"{EVIL} {{{{ 7 * 7 }}}}", False: "  "}, domains=(f"d {EVIL}", "films"))
    html = Path(write_report(run.storage.uri)).read_text(encoding="utf-8")
    assert "<script" not in html.lower()
    page = Page(html)
    assert page.problems == []
    first = page.table("answers")[0]
    assert first == [f"d {EVIL} s0002", f"✓ {EVIL} {{{{ 7 * 7 }}}}", "✗ (nothing)", f"✓ {EVIL} {{{{ 7 * 7 }}}}"]


def test_what_is_missing_is_said(run: Run) -> None:
    assert "python -m jobs.ablate RUN --config FILE" in shown(run).text("answers")
    publish_ablation(run)
    assert shown(run).table("answers")
    for folder in (Path(run.storage.uri) / "ablation").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    bare = shown(run)
    assert bare.table("answers") == []
    assert "The answers themselves are not here" in bare.text("answers")
    assert bare.table("silencing")


def test_nothing_predicted(run: Run) -> None:
    publish_ablation(run, CONFIG.model_copy(update={"seeds": 1}), answer=silent)
    assert "Nothing was predicted in the ablation" in shown(run).text("answers")


def test_answers_that_came_after_the_tables_are_told_apart(run: Run) -> None:
    partial = CONFIG.model_copy(update={"allow_partial": True, "seeds": 1})
    publish_ablation(run, partial, uncommitted=1)
    assert "PARTIAL: the tables of ablation were judged before every sample was" in shown(run).text("silencing")
    assert "were judged from other answers" not in shown(run).text("answers")
    success = Path(run.storage.uri) / "ablation" / "_SUCCESS.json"
    tables = {path: path.read_bytes() for path in (success, *success.parent.glob("*.parquet"))}
    publish_ablation(run, partial)
    assert "PARTIAL" not in shown(run).text("silencing")
    assert "were judged from other answers" not in shown(run).text("answers")
    for path, data in tables.items():
        path.write_bytes(data)
    text = shown(run).text("answers")
    assert "The tables of ablation were judged from other answers than are shown here." in text
