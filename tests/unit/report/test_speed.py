"""The section of speed, against the tables of the stage."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from rampipe.heads.claims import fast
from rampipe.report import figures
from rampipe.report.page import write_report
from rampipe.report.sources import read_sources
from rampipe.report.speed import speed_section
from rampipe.report.speed_curve import SpeedPanel
from rampipe.report.speed_panels import QUANTITIES, speed_panels
from rampipe.report.speed_rows import speed_rows
from rampipe.report.style import DARK, LIGHT, Theme
from rampipe.tables.run import Run
from tests.unit.report.made_run import EVIL, Shape, make_run
from tests.unit.report.made_speed import TOP, publish_speed, read_speed
from tests.unit.report.reading import Page

PREFILL = QUANTITIES[0]
NUM_COLUMNS = 9


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, Shape(num_units=1, num_committed=1))


def shown(run: Run) -> Page:
    return Page(Path(write_report(run.storage.uri)).read_text(encoding="utf-8"))


def arm_rows(page: Page) -> list[list[str]]:
    return [row for row in page.table("speed") if len(row) == NUM_COLUMNS]


def panels(run: Run) -> list[SpeedPanel]:
    return speed_panels(read_speed(run), read_speed(run, "accuracy"), PREFILL)


def test_without_the_stage_the_command_is_named_and_with_it_the_claim(run: Run) -> None:
    before = shown(run)
    assert "python -m jobs.speed RUN --config FILE" in before.text("speed")
    assert before.table("speed") == []
    publish_speed(run)
    after = shown(run)  # twin: the page is made again, for another stage
    assert after.problems == []
    claim = str(fast(read_speed(run), read_speed(run, "accuracy")))
    assert claim.startswith("fast holds: full attention for top 10 % alone: prefill 2.00 x dense at 2,048 tokens")
    section = after.text("speed")
    assert section.startswith(f"Speed and quality with few full heads {claim}")
    assert "jobs.speed" not in section
    assert "full attention for top 5 % alone: prefill 2.00 x dense at 512 tokens" in section
    files = {path.name for path in (Path(run.storage.uri) / "report").glob("speed-*.png")}
    assert files == {"speed-prefill.png", "speed-decode.png", "speed-cache.png"}


def test_what_is_slower_is_not_called_fast(run: Run) -> None:
    publish_speed(run, prefill_s=4.0)
    text = shown(run).text("speed")
    assert "fast does NOT hold: prefill is " in text
    assert "fast holds" not in text


def test_rows_are_the_tables(run: Run) -> None:
    publish_speed(run)
    rows = arm_rows(shown(run))
    names = ["dense", "no head", "top 5 %", "↳ random, seed 0", "↳ random, mean of 2 draws", "top 10 %"]
    names += ["↳ random, seed 0", "↳ random, mean of 2 draws", "every head", "bottom 5 %", "bottom 10 %"]
    assert [row[0] for row in rows] == names * 2
    assert rows[0] == ["dense", "100.0", "100.0", "1.00", "1.00", "1.00", "1.00", "100.0 (91.2 to 100.0)", "–"]
    top = read_speed(run).filter(pl.col("arm_id") == TOP).row(0, named=True)
    judged = read_speed(run, "accuracy").filter(pl.col("arm_id") == TOP, pl.col("scope") == "overall")
    row = rows[names.index("top 5 %")]
    assert row[1:3] == [f"{100 * top['query_head_frac']:.1f}", f"{100 * top['kv_head_frac']:.1f}"]
    assert row[1] != row[2]
    assert row[3:7] == ["2.00", "2.00", "4.00", "–"]  # one repetition has no range; memory was not measured
    assert row[7] == f"97.5 ({100 * judged.item(0, 'low'):.1f} to {100 * judged.item(0, 'high'):.1f})"
    assert row[8].startswith("−2.5 (−")
    # 20 and 21 of 40 are wrong; the second draw is judged, not timed.
    assert rows[names.index("top 5 %") + 2][3:] == ["–"] * 4 + ["48.8 (47.5 to 50.0)", "−51.2 (−52.5 to −50.0)"]


def test_repetitions_give_a_range(run: Run) -> None:
    publish_speed(run)
    path = Path(run.storage.uri) / "speed" / "speed.parquet"
    wide = {"num_repeats": 5, "prefill_ratio_low": 1.8, "prefill_ratio_high": 2.25}
    sources = read_sources(run.storage.uri)
    table = pl.read_parquet(path).with_columns(pl.lit(value).alias(name) for name, value in wide.items())
    accuracy = sources.table("speed", "accuracy")
    assert accuracy is not None
    rows = speed_rows(table, accuracy, context_tokens=512)
    assert rows[2][3] == "2.00 (1.80 to 2.25)"


def test_the_device_is_in_the_title_or_beside_each_arm(run: Run) -> None:
    publish_speed(run, devices=["H200"])
    assert "All arms at 512 tokens on H200" in shown(run).text("speed")
    publish_speed(run, devices=["H200", EVIL], prefill_s=1.5)
    html = Path(write_report(run.storage.uri)).read_text(encoding="utf-8")
    assert "<script" not in html
    names = {row[0] for row in arm_rows(Page(html))}
    assert {"no head, on H200", f"top 5 %, on {EVIL}"} <= names


def test_domains_with_the_heads_that_are_kept(run: Run) -> None:
    publish_speed(run)
    rows = [row for row in shown(run).table("speed") if len(row) == 7]
    assert [row[0] for row in rows] == ["all domains", "text-only control", "docs", "films"]
    assert rows[0][2:] == ["100.0", "100.0 (0.0)", "50.0 (−50.0)", "50.0 (−50.0)", "48.8 (−51.2)"]
    # Of the second draw 11 of 20 and 10 of 20 are wrong; shown is the mean of both.
    assert [rows[place][6] for place in (2, 3)] == ["47.5 (−52.5)", "50.0 (−50.0)"]


def test_what_failed_is_said(run: Run) -> None:
    publish_speed(run, failed=[f"{TOP}@2048"])
    text = shown(run).text("speed")
    assert f"Not timed: 1 pair of arm and length, first {TOP} at 2,048 tokens." in text
    assert f"NOT TIMED: {TOP} at 2,048 tokens" in text


def test_no_answers_no_figure(run: Run) -> None:
    publish_speed(run, answer=lambda arm, index: None)
    section = speed_section(read_sources(run.storage.uri))
    assert section.figures == ()
    assert "No figure: no answer was judged under these arms." in section.notes
    assert {row[7] for table in section.tables for row in table.rows} == {"–"}


def test_points_are_the_table(run: Run) -> None:
    publish_speed(run)
    short, long = panels(run)
    assert (short.title, long.title) == ("Prefill, 512 tokens", "Prefill, 2,048 tokens")
    assert [point.series for point in long.points] == [
        "bottom", "bottom", "every head full", "no head full", "random", "random", "top", "top",
    ]  # fmt: skip
    assert {(point.label, point.is_path) for point in long.points} == {("", False), ("5 %", True), ("10 %", True)}
    assert long.base[0] == 1.0
    top = next(point for point in long.points if point.label == "5 %")
    assert top.gain == (2.0, 2.0, 2.0)
    assert top.accuracy[0] == 0.975
    assert top.accuracy[1] < 0.975 < top.accuracy[2]
    marks = [point.mark for point in long.points]
    assert len(set(marks)) == 5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_top_point_moves_with_its_speed(run: Run, theme: Theme) -> None:
    """The pixels in the accent colour move right with the ratio, and up with the accuracy."""
    publish_speed(run)
    speed, accuracy = read_speed(run), read_speed(run, "accuracy")
    speed = speed.filter(pl.col("context_tokens") == 512)
    is_top = (pl.col("strategy") == "top") & pl.col("query_head_frac").is_between(0, 1, closed="none")
    slow = speed.with_columns(pl.when(is_top).then(1.1).otherwise(f"prefill_ratio{end}").alias(f"prefill_ratio{end}")
                              for end in ("", "_low", "_high"))  # fmt: skip
    poor = accuracy.with_columns(pl.when(is_top).then(0.1).otherwise("accuracy").alias("accuracy"),
                                 pl.when(is_top).then(0.05).otherwise("low").alias("low"))  # fmt: skip
    usual, slower, poorer = (
        centre(speed_panels(*tables, PREFILL), theme) for tables in ((speed, accuracy), (slow, accuracy), (speed, poor))
    )
    assert slower[0] < usual[0] - 0.2
    assert poorer[1] > usual[1] + 0.2


def centre(made: list[SpeedPanel], theme: Theme) -> tuple[float, float]:
    """Where the accent colour is, as shares of the figure from the left and from above."""
    with Image.open(io.BytesIO(figures.speed(made, label="x", theme=theme))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    wanted = [int(theme.accent[start : start + 2], 16) for start in (1, 3, 5)]
    rows, columns = np.nonzero(abs(pixels[: int(pixels.shape[0] * 0.85)] - np.array(wanted)).sum(axis=-1) < 12)
    return float(np.median(columns) / pixels.shape[1]), float(np.median(rows) / pixels.shape[0])
