"""Depth, and image needles beside text needles, against the rows that the run holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rampipe.report import figures
from rampipe.report.depth_profile import depth_profile, draw_depth
from rampipe.report.evidence_kinds import kind_means, kinds_of_domains
from rampipe.report.heatmap import HeadGrid, head_grid
from rampipe.report.kind_scatter import draw_shared, shared_heads
from rampipe.report.page import write_report
from rampipe.report.ranked import ranked_scopes
from rampipe.report.sources import read_sources
from rampipe.report.style import DARK, LIGHT, new_figure
from rampipe.tables.run import Run
from rampipe.types import HeadId
from tests.unit.report.made_run import NUM_HEADS, PLANTED, PLANTED_TEXT, Shape, make_run, rank
from tests.unit.report.reading import Page

BOTH = Shape(domains=("glyph", "words", "chart"), kinds={"glyph": "image", "chart": "image", "words": "text"},
             failed_rows=(0, 7))  # fmt: skip


def ranked_run(folder: Path, shape: Shape) -> Run:
    run = make_run(folder, shape)
    rank(run)
    return run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two domains of image needles, one of text needles; the first planted head serves both."""
    return ranked_run(tmp_path_factory.mktemp("both"), BOTH)


def shown(run: Run) -> Page:
    return Page(Path(write_report(run.storage.uri)).read_text(encoding="utf-8"))


def grid_of(values: list[list[float]], *core: HeadId) -> HeadGrid:
    cells = np.array(values)
    return head_grid(((HeadId(*place), value) for place, value in np.ndenumerate(cells)), core=core)


def test_means_of_a_kind_are_over_its_samples(both: Run) -> None:
    """The oracle reads all rows; the section only the ranking, whose image domains have 7 and 8 samples."""
    sources = read_sources(both.storage.uri)
    ranking, concentration = sources.table("ranking", "ranking"), sources.table("ranking", "concentration")
    assert ranking is not None
    assert concentration is not None
    ranked = ranked_scopes(ranking, concentration)
    assert ranked is not None
    kinds = kind_means(sources.samples, ranked)
    assert {kind: found.domains for kind, found in kinds.items()} == {"image": ("chart", "glyph"), "text": ("words",)}
    rows = pl.read_parquet(f"{both.storage.uri}/head_stats/*.parquet")
    for kind, found in kinds.items():
        of_kind = rows.filter(pl.col("domain").is_in(found.domains))
        means = of_kind.group_by("layer", "head").agg(pl.col("mass_evidence").cast(pl.Float64).mean()).sort(pl.all())
        truth = means.get_column("mass_evidence").to_numpy().reshape(-1, NUM_HEADS)
        np.testing.assert_allclose(found.grid.values, truth, rtol=1e-12)
        assert found.num_samples == of_kind.get_column("sample_id").n_unique()
        best = np.argsort(-truth.ravel(), kind="stable")[: len(ranked.overall.core)]
        assert found.grid.core == {HeadId(*divmod(int(index), NUM_HEADS)) for index in best}, kind


def test_page_says_which_heads_serve_both(both: Run) -> None:
    page = shown(both)
    assert page.problems == []
    sets = {row[0]: row[1] for row in page.table("needles")}
    assert sets[str(PLANTED[0])] == "shared"
    assert sets[str(PLANTED[1])] == "image only"
    assert sets[str(PLANTED_TEXT[1])] == "text only"
    counts = [list(sets.values()).count(name) for name in ("shared", "image only", "text only")]
    text = page.text("needles")
    assert f"{counts[0]} of 5 CoRe heads of image needles are CoRe heads of text needles too" in text
    assert f"(Jaccard {counts[0] / sum(counts):.2f}); {counts[1]} serve images alone, {counts[2]} text alone" in text
    assert "15 samples of chart, glyph" in text
    rows = page.table("depth")
    largest = [[max(float(row[place].split()[0]) for row in rows), rows] for place in (1, 4)]
    assert [row[1].split("(")[1] for row in rows if float(row[1].split()[0]) == largest[0][0]] == [f"{PLANTED[0]})"]
    assert [row[4].split("(")[1] for row in rows if float(row[4].split()[0]) == largest[1][0]] == [f"{PLANTED[0]})"]
    assert sum(int(row[3]) for row in rows) == sum(int(row[6]) for row in rows) == 5


def test_one_kind_has_a_depth_but_no_overlap(tmp_path: Path) -> None:
    images = dict.fromkeys(BOTH.domains, "image")
    page = shown(ranked_run(tmp_path, Shape(domains=BOTH.domains, kinds=images)))
    assert "this run has no domain of text needles" in page.text("needles")
    assert page.table("needles") == []
    assert {len(row) for row in page.table("depth")} == {4}
    assert not (tmp_path / "report" / "needles.png").exists()


def test_domains_that_do_not_say_or_say_both_are_left_out(tmp_path: Path) -> None:
    kinds = {"glyph": "both", "words": "text"}
    run = ranked_run(tmp_path, Shape(domains=BOTH.domains, kinds=kinds))
    found = kinds_of_domains(read_sources(run.storage.uri).samples)
    assert found == {"chart": frozenset(), "glyph": {"image", "text"}, "words": {"text"}}
    text = shown(run).text("needles")
    assert "this run has no domain of image needles" in text
    assert "Left out: chart, whose samples do not say what their evidence is" in text
    assert "Left out: glyph, whose samples have evidence of both kinds." in text


def test_profile_is_by_layer_and_absent_layers_are_gaps() -> None:
    nan = float("nan")
    grid = grid_of([[0.1, 0.3], [nan, nan], [0.8, nan], [0.0, 0.2]], HeadId(0, 1), HeadId(2, 0), HeadId(3, 1))
    profile = depth_profile(grid, name="all samples")
    np.testing.assert_allclose(profile.largest, [0.3, nan, 0.8, 0.2])
    np.testing.assert_allclose(profile.mean, [0.2, nan, 0.8, 0.1])
    assert profile.first == (HeadId(0, 1), None, HeadId(2, 0), HeadId(3, 1))
    assert profile.num_core.tolist() == [1, 0, 1, 1]
    assert profile.num_deep == 2  # the first third of 4 layers is layers 0 and 1
    cells = new_figure(5.0, 5.0, theme=LIGHT).subplots(3, 1).tolist()
    draw_depth(cells, [profile], metric="ram", theme=LIGHT)
    np.testing.assert_allclose(np.asarray(cells[0].lines[0].get_ydata()), profile.largest)
    assert [bar.get_height() for bar in cells[2].patches] == [1, 0, 1, 1]


def test_sets_are_what_two_grids_share() -> None:
    image = grid_of([[0.9, 0.1], [0.2, 0.0]], HeadId(0, 0), HeadId(1, 0))
    text = grid_of([[0.5, 0.4], [0.1, float("nan")]], HeadId(0, 0), HeadId(0, 1))
    heads = shared_heads(image, text)
    assert heads.sets == {"shared": (HeadId(0, 0),), "image only": (HeadId(1, 0),), "text only": (HeadId(0, 1),)}
    assert heads.jaccard == pytest.approx(1 / 3)
    assert shared_heads(image, image).jaccard == 1.0
    axes = new_figure(5.0, 5.0, theme=LIGHT).add_subplot()
    draw_shared(axes, heads, metric="ram", theme=LIGHT)
    rest, *marked = (np.asarray(points.get_offsets()).tolist() for points in axes.collections)
    assert rest == [[0.9, 0.5], [0.1, 0.4], [0.2, 0.1]]  # the head without a value has no point
    assert marked == [[[0.9, 0.5]], [[0.2, 0.1]], [[0.1, 0.4]]]
    assert [label.get_text() for label in axes.texts] == ["0.0", "1.0", "0.1"]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] < 0 < 0.9 < axes.get_xlim()[1]


def test_a_metric_with_negative_values_has_room_below_zero() -> None:
    image = grid_of([[0.4, -0.2], [0.1, 0.0]], HeadId(0, 0))
    axes = new_figure(5.0, 5.0, theme=LIGHT).add_subplot()
    draw_shared(axes, shared_heads(image, image), metric="excess", theme=LIGHT)
    low, high = axes.get_xlim()
    assert low < -0.2 < 0.4 < high
    assert min(axes.get_xticks()) == -0.2
    nothing = grid_of([[0.0, 0.0]], HeadId(0, 0))
    draw_shared(axes, shared_heads(nothing, nothing), metric="ram", theme=LIGHT)  # twin: no value above 0 either


def test_figures_are_the_same_each_time_and_differ_by_theme() -> None:
    image = grid_of([[0.9, 0.1], [0.2, 0.0]], HeadId(0, 0))
    heads = shared_heads(image, grid_of([[0.1, 0.1], [0.7, 0.0]], HeadId(1, 0)))
    first, again, dark = (figures.shared(heads, metric="ram", theme=theme) for theme in (LIGHT, LIGHT, DARK))
    assert first == again != dark
    profile = depth_profile(image, name="image needles")
    assert figures.depth([profile], metric="ram", theme=LIGHT) == figures.depth([profile], metric="ram", theme=LIGHT)
