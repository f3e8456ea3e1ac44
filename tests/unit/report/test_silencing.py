"""The section of the ablation, against the table that the judge made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from rampipe.config import AblateConfig
from rampipe.report import figures
from rampipe.report.fraction_curve import FractionLine
from rampipe.report.page import write_report
from rampipe.report.palette import look
from rampipe.report.silencing import confidence_of, fraction_panels, silencing_section
from rampipe.report.sources import read_sources
from rampipe.report.style import DARK, LIGHT
from rampipe.tables.chain import ranking_sha256
from rampipe.tables.run import Run
from tests.unit.report.made_ablation import (
    CONFIG,
    lowest_heads,
    publish_ablation,
    publish_screen,
    read_accuracy,
    silent,
)
from tests.unit.report.made_run import Shape, make_run, rank
from tests.unit.report.reading import Page


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Captured, not ranked: the section needs its own tables only."""
    return make_run(tmp_path, Shape(num_units=1, num_committed=1))


def shown(run: Run) -> Page:
    return Page(Path(write_report(run.storage.uri)).read_text(encoding="utf-8"))


def line_of(accuracy: pl.DataFrame, strategy: str) -> FractionLine:
    return next(line for line in fraction_panels(accuracy)[0].lines if line.strategy == strategy)


def test_without_the_stage_the_command_is_named_and_with_it_the_verdict(run: Run) -> None:
    before = shown(run)
    assert "python -m jobs.ablate RUN --config FILE" in before.text("silencing")
    assert before.table("silencing") == []
    lines = publish_ablation(run)
    after = shown(run)  # twin: the page is made again, for another stage
    assert after.problems == []
    assert "No ablation" not in after.text("silencing")
    assert len(lines) > 6
    assert "causal holds: without the top 5 % accuracy is 0.10 of 0.97" in after.text("silencing")
    assert all(line in after.text("silencing") for line in lines)
    assert (Path(run.storage.uri) / "report" / "silencing.png").is_file()


def test_table_of_arms_is_the_accuracy_table(run: Run) -> None:
    publish_ablation(run)
    row = next(row for row in shown(run).table("silencing") if row[0] == "top 5 %" and len(row) == 9)
    truth = read_accuracy(run).filter(pl.col("scope") == "overall", pl.col("arm_id") == "top-0.05-zero-all")
    names = ("query_head_frac", "kv_head_frac", "accuracy")
    assert row[1:4] == [f"{100 * truth.item(0, name):.1f}" for name in names]
    assert row[1] != row[2]
    assert row[4] == f"{100 * truth.item(0, 'low'):.1f} to {100 * truth.item(0, 'high'):.1f}"
    assert row[5] == f"−{-100 * truth.item(0, 'difference'):.1f}"
    assert row[7:] == ["< 0.001", "< 0.001"]


def test_random_draws_are_under_their_arm_with_their_range(run: Run) -> None:
    publish_ablation(run)
    rows = [row for row in shown(run).table("silencing") if len(row) == 9]
    place = [row[0] for row in rows].index("top 5 %")
    assert [row[0] for row in rows[place + 1 : place + 3]] == ["↳ random, 3 draws", "↳ layer-matched random, 3 draws"]
    # 40 samples, wrong are 3, 4 and 5.
    assert [row[3:5] for row in rows[place + 1 : place + 3]] == [["90.0", "87.5 to 92.5"]] * 2
    assert rows[place + 1][7:] == ["–", "–"]


def test_domains_have_the_arms_of_five_percent(run: Run) -> None:
    publish_ablation(run)
    rows = [row for row in shown(run).table("silencing") if len(row) == 7]
    assert [row[0] for row in rows] == ["all domains", "text-only control", "docs", "films"]
    assert [row[1] for row in rows] == ["40", "20", "20", "20"]
    truth = read_accuracy(run).filter(pl.col("arm_id") == "top-0.05-zero-all").sort("scope")
    films = truth.filter(pl.col("scope") == "films")
    cell = f"{100 * films.item(0, 'accuracy'):.1f} (−{-100 * films.item(0, 'difference'):.1f})"
    assert rows[3][3] == cell
    assert rows[1][3] == "80.0 (0.0)"


def test_lines_of_the_figure_are_the_table(run: Run) -> None:
    publish_ablation(run)
    accuracy = read_accuracy(run)
    top, bottom = line_of(accuracy, "top"), line_of(accuracy, "bottom")
    drawn = line_of(accuracy, "layer_matched_random")
    np.testing.assert_allclose(top.accuracy, [0.5, 0.1, 0.1])
    np.testing.assert_allclose(bottom.accuracy, [0.95, 0.95, 0.95])
    np.testing.assert_allclose(top.share, [2 / 96, 5 / 96, 19 / 96], atol=1 / 96)
    assert (top.low < top.accuracy).all()
    assert (drawn.is_band, top.is_band) == (True, False)
    np.testing.assert_allclose(drawn.high - drawn.low, 2 / 40)
    np.testing.assert_allclose(drawn.accuracy, (drawn.high + drawn.low) / 2)


def test_the_top_line_is_where_the_accuracy_is(run: Run) -> None:
    """The pixels in the accent colour move with the answers of the top arms."""
    publish_ablation(run)
    accuracy = read_accuracy(run)
    is_top = pl.col("strategy") == "top"
    unharmed = accuracy.with_columns(pl.when(is_top).then(0.97).otherwise("accuracy").alias("accuracy"))
    heights = list[float]()
    for table in (accuracy, unharmed):
        with Image.open(io.BytesIO(figures.fractions(fraction_panels(table), theme=LIGHT))) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        accent = abs(pixels - np.array([0xD5, 0x5E, 0x00])).sum(axis=-1) < 12
        heights.append(float(np.median(np.nonzero(accent)[0]) / pixels.shape[0]))
    assert heights[0] > 0.5
    assert heights[1] < 0.3


def test_every_way_to_silence_has_its_panel(run: Run) -> None:
    publish_ablation(run)
    assert [panel.title for panel in fraction_panels(read_accuracy(run))] == ["Accuracy with heads silenced"]
    ways = AblateConfig(
        fracs=(0.05,), seeds=2, modes=("zero", "mean"), positions=("all", "decode"), bootstrap_samples=10
    )
    publish_ablation(run, ways)
    titles = [panel.title for panel in fraction_panels(read_accuracy(run))]
    assert sorted(titles) == [
        "Accuracy with heads silenced",
        "Accuracy with heads silenced [decode]",
        "Accuracy with heads silenced [mean, decode]",
        "Accuracy with heads silenced [mean]",
    ]


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_confidence_is_the_one_of_the_intervals(run: Run, confidence: float) -> None:
    lines = publish_ablation(run, CONFIG.model_copy(update={"confidence": confidence}))
    accuracy = read_accuracy(run)
    assert confidence_of(accuracy) == pytest.approx(confidence)
    for share in (0.0, 1.0):
        assert confidence_of(accuracy.filter(pl.col("accuracy") == share)) in (None, pytest.approx(confidence))
    section = silencing_section(read_sources(run.storage.uri))
    assert section.verdict == tuple(lines)
    assert f"{confidence * 100:g} % Wilson" in section.figures[0].caption


def test_no_predictions_are_dashes_and_no_figure(run: Run) -> None:
    publish_ablation(run, answer=silent)
    section = silencing_section(read_sources(run.storage.uri))
    assert section.figures == ()
    assert section.notes[0].startswith("No figure: nothing was predicted")
    assert {cell for row in section.rows for cell in row[3:]} == {"–"}
    assert "accuracy unknown" in section.verdict[0]


def test_every_way_to_choose_heads_is_drawn_with_a_look_of_its_own(run: Run) -> None:
    strategies = (
        "top",
        "bottom",
        "bottom_idle",
        "band",
        "cumulative_mass",
        "from_list",
        "random",
        "layer_matched_random",
    )
    bands = ((0.05, 0.1), (0.1, 0.2))
    some = AblateConfig(
        fracs=(0.05,), seeds=2, strategies=strategies, bands=bands, heads=("0.1", "2.3"), bootstrap_samples=10,
        screen_split="control",
    )  # fmt: skip
    publish_ablation(run, some, idle=frozenset(lowest_heads()[40:80]))
    (panel,) = fraction_panels(read_accuracy(run))
    assert {line.strategy for line in panel.lines} == set(strategies)
    assert len({look(line.strategy, LIGHT) for line in panel.lines}) == len(strategies)
    assert len({look(line.strategy, DARK).colour for line in panel.lines}) == len(strategies)
    bands_drawn = next(line for line in panel.lines if line.strategy == "band")
    assert len(bands_drawn.share) == 2
    spreads = [line for line in panel.lines if line.is_band]
    # Of top, then of the mass and of the list: the same name once, the others hollow points.
    assert [line.is_path for line in spreads] == [True, True, False, False, False, False]
    assert [bool(line.name) for line in spreads] == [True, True, False, False, False, False]
    section = silencing_section(read_sources(run.storage.uri))
    names = [row[0] for row in section.rows]
    assert {"band 5 to 10 %", "band 10 to 20 %", "cumulative mass 50 %", "from list"} <= set(names)
    assert {"band 5 to 10 %", "cumulative mass 50 %", "from list"} <= set(section.domain_columns)
    publish_ablation(run)  # twin: what was not tried is not drawn
    assert {line.strategy for line in fraction_panels(read_accuracy(run))[0].lines} == {
        *("top", "bottom", "random", "layer_matched_random")
    }


def test_both_bottom_controls_stand_side_by_side(run: Run) -> None:
    needed = lowest_heads()[-1]
    idle = publish_screen(run, needed=needed)
    assert needed not in idle
    both = CONFIG.model_copy(
        update={"strategies": ("top", "bottom", "bottom_idle", "random"), "screen_split": "control"}
    )
    publish_ablation(run, both, idle=idle)
    page = shown(run)
    assert page.problems == []
    (lowest,), (lowest_idle,) = (
        [row for row in page.table("silencing") if row[0] == name and len(row) == 4]
        for name in ("bottom 5 %", "bottom idle 5 %")
    )
    assert lowest[1:3] == ["95.0 (−2.5)", "80.0 (0.0)"]
    assert lowest_idle[1:3] == ["97.5 (0.0)", "80.0 (0.0)"]
    assert str(needed) in lowest[3].split(", ")
    assert str(needed) not in lowest_idle[3].split(", ")
    text = page.text("silencing")
    assert (
        "in 32 bands, one at a time, on 20 other text-only samples. 1 band cost more than 0.02 of right answers" in text
    )
    assert line_of(read_accuracy(run), "bottom_idle").is_path
    assert "Both are the same heads" not in text
    publish_ablation(run, both, idle=frozenset(lowest_heads()[48:]))  # twin: none is needed
    assert "Both are the same heads" in shown(run).text("silencing")


def test_a_bottom_control_alone_says_what_it_may_hold(run: Run) -> None:
    publish_ablation(run)
    assert "name bottom_idle in ablate.strategies" in shown(run).text("silencing")
    publish_ablation(run, CONFIG.model_copy(update={"strategies": ("top", "random")}))  # twin: no bottom, no word of it
    assert "bottom_idle" not in shown(run).text("silencing")


def test_a_ranking_of_one_domain_on_another_is_a_matrix(run: Run) -> None:
    publish_ablation(run, CONFIG.model_copy(update={"scopes": ("overall", "films"), "fracs": (0.05,), "seeds": 1}))
    section = silencing_section(read_sources(run.storage.uri))
    assert section.transfer_columns == (
        "top 5 % ranked on", "asked: all domains", "asked: docs", "asked: films", "asked: text-only control"
    )  # fmt: skip
    assert [row[0] for row in section.transfer_rows] == ["all domains", "films"]
    # Heads of the ranking on films cost the other domain all answers, and films none.
    assert section.transfer_rows[1][2:4] == ("0.0 (−95.0)", "100.0 (0.0)")
    assert section.transfer_rows[0][2:4] == ("10.0 (−85.0)", "10.0 (−90.0)")
    assert {row[0].split(" [")[0] for row in section.other_rows if not row[0].startswith("↳")} == {
        "top 5 %", "bottom 5 %"
    }  # fmt: skip
    assert all("films" not in row[0] for row in section.rows)
    text = shown(run).text("silencing")
    assert "asked: films" in text
    publish_ablation(run)  # twin
    assert silencing_section(read_sources(run.storage.uri)).transfer_rows == ()
    assert "Only one ranking was tried." in shown(run).text("silencing")


def test_heads_of_another_ranking_than_the_pages_own_are_told_apart(run: Run) -> None:
    rank(run)
    publish_ablation(run, ranking_sha256=ranking_sha256(run))
    assert "another ranking" not in shown(run).text("silencing")
    publish_ablation(run)
    assert "These heads were chosen from another ranking than the one above" in shown(run).text("silencing")
