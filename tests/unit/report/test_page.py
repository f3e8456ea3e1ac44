"""What a reader of the page sees, against the tables that it was made from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from rampipe.errors import StorageError
from rampipe.report.page import prose, write_report
from rampipe.report.sources import read_sources
from rampipe.report.summary import warnings
from rampipe.tables.finish import finish_run
from rampipe.tables.stop import stop_run
from rampipe.tables.stopped import Stopped
from tests.unit.report.made_run import EVIL, PLANTED, Shape, make_run, publish_examples, rank
from tests.unit.report.reading import Page


def read_page(path: str) -> Page:
    return Page(Path(path).read_text(encoding="utf-8"))


def test_tags_balance_and_the_check_finds_one_that_does_not(page: Page) -> None:
    assert page.problems == []
    assert Page("<section id='a'><p>text</section>").problems


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    assert all(resource.startswith("data:image/png;base64,") for resource in page.resources())
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    num_images = len([tag for tag, _ in page.tags if tag == "img"])
    assert num_images == 2 + 1 + 2 + 4  # where, depth, domains, two heads of two samples
    assert len(page.resources()) == 2 * (2 + 1 + 2) + 4  # maps fit both themes


def test_maps_are_named_by_head_and_mass(page: Page) -> None:
    for head in PLANTED:
        assert f"head {head} · " in page.text("examples")


def test_top_rows_are_the_ranking(page: Page, complete: Path) -> None:
    ranking = pl.read_parquet(complete / "ranking" / "ranking.parquet").filter(pl.col("scope") == "overall")
    first = ranking.sort("rank").head(20)
    rows = page.table("top")
    assert [row[1] for row in rows] == [f"{layer}.{head}" for layer, head in first.select("layer", "head").iter_rows()]
    assert rows[0][1] == str(PLANTED[0])
    np.testing.assert_allclose([float(row[3]) for row in rows], first["mean"], atol=5.1e-5)
    selected = [float(row[6].rstrip("%")) / 100 for row in rows]
    np.testing.assert_allclose(selected, first["selection_probability"], atol=5.1e-4)
    assert {row[2] for row in rows[:5]} == {"core"}


def test_tiles_are_the_tables(page: Page, complete: Path) -> None:
    concentration = pl.read_parquet(complete / "ranking" / "concentration.parquet").row(0, named=True)
    stability = pl.read_parquet(complete / "ranking" / "stability.parquet").row(0, named=True)
    text = page.text("header")
    assert f"{concentration['half_mass_frac']:.1%} {concentration['half_mass_heads']} of 48 heads" in text
    assert "samples measured 22 of 24 planned; 2 errors" in text
    assert f"split-half reliability {stability['reliability']:.2f}" in text
    assert "answered correctly 72.7%" in text  # 16 of 22


def test_every_domain_has_its_row(page: Page) -> None:
    rows = {row[0]: row for row in page.table("domains")}
    assert set(rows) == {"receipts", "charts & tables", "symbols"}
    assert [rows[name][1] for name in ("charts & tables", "receipts", "symbols")] == ["6", "8", "8"]
    assert all(row[4] == str(PLANTED[0]) for row in rows.values())


def test_metric_is_named_by_id_and_never_called_the_papers(page: Page) -> None:
    assert "The metric is ram : evidence mass, mean over the question rows" in page.text("made")
    assert "paper's RAM" not in page.text()


def test_identity_is_complete(page: Page) -> None:
    text = page.text("made")
    for wanted in ("fingerprint", "org-tiny-vl-7b", "made", "numpy", "rank.k_frac 0.1", "model.dtype float32"):
        assert wanted in text


def test_errors_are_counted_by_cause(page: Page) -> None:
    assert [row[:3] for row in page.table("errors")] == [["decode", "image_corrupt", "2"]]


def test_text_of_users_is_escaped(tmp_path: Path) -> None:
    shape = Shape(domains=(f"a {EVIL}", "b $x_"), sample_prefix=EVIL)
    run = make_run(tmp_path, shape)
    rank(run)
    publish_examples(run, sample_ids=[f"{EVIL}-0"], question=f"{EVIL} {{{{ 7 * 7 }}}}?")
    html = Path(write_report(run.storage.uri)).read_text(encoding="utf-8")
    assert "<script" not in html.lower()
    shown = Page(html)
    assert shown.problems == []
    assert EVIL in shown.text("domains")
    assert f"{EVIL} {{{{ 7 * 7 }}}}?" in shown.text("examples")
    assert f"{EVIL}-0" in shown.text("examples")
    assert EVIL in shown.text("errors")


def test_a_finished_run_has_no_banner(page: Page) -> None:
    assert ("warning" in [attributes.get("id") for _, attributes in page.tags]) is False


def test_a_partial_run_says_so_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, Shape(num_committed=2))
    rank(run, allow_partial=True)
    shown = read_page(write_report(run.storage.uri))
    assert "warning" in [attributes.get("id") for _, attributes in shown.tags]
    assert "This run is partial: 8 of 24 planned samples are missing. 1 of 3 units are not committed" in shown.text(
        "header"
    )
    assert shown.table("top")


def test_a_run_that_was_ended_early_is_whole_and_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path, Shape(num_committed=2))
    stopped = Stopped(run.fingerprint, (0, 1), 16, 24, "ram", 0.1, 0.95, 0.0, "context", 16, ("0.1",))
    finish_run(stop_run(run, stopped))
    rank(run)
    shown = read_page(write_report(run.storage.uri))
    assert warnings(read_sources(run.storage.uri)) == []
    assert "stopped after 16 of 24 samples (33.3% saved)" in shown.text("made")


def test_a_ranking_of_fewer_rows_is_called_old(tmp_path: Path) -> None:
    run = make_run(tmp_path, Shape(num_committed=2))
    rank(run, allow_partial=True)
    make_run(tmp_path)
    assert [warning.split(".")[0] for warning in warnings(read_sources(run.storage.uri))] == [
        "The ranking was made while the run was partial",
        "The ranking is of other rows than are committed now",
    ]
    rank(run)
    assert warnings(read_sources(run.storage.uri)) == []


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    run = make_run(tmp_path, Shape(predicts=False, failed_rows=()))
    shown = read_page(write_report(run.storage.uri))
    for section in ("where", "depth", "top", "domains", "needles", "stability"):
        assert "python -m jobs.rank RUN" in shown.text(section)
        assert not [cell for row in shown.table(section) for cell in row if cell.startswith("0.0")]
    assert "python -m jobs.pipeline --config FILE.toml" in shown.code
    assert "`" not in shown.text()
    assert "no predictions" in shown.text("header")
    assert "every planned sample was measured" in shown.text("errors")


def test_a_run_without_a_commit_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, Shape(num_committed=0))
    shown = read_page(write_report(run.storage.uri))
    assert "24 of 24 planned samples are missing" in shown.text("header")
    assert "python -m jobs.capture" in shown.text("domains")
    assert "python -m jobs.capture" in shown.text("errors")


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"not a run"):
        write_report(str(tmp_path))


def test_a_damaged_ranking_is_an_error_not_a_gap(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rank(run)
    path = Path(run.storage.uri) / "ranking" / "ranking.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match="ranking"):
        write_report(run.storage.uri)


def test_an_image_that_does_not_decode_leaves_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.report.made_run.receipt", lambda: b"not a png")
    run = make_run(tmp_path)
    publish_examples(run, sample_ids=["sample-0"])
    assert "sample sample-0, image 0: cannot be decoded" in read_page(write_report(run.storage.uri)).text("examples")


def test_written_once_and_again_only_for_other_inputs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    folder = Path(run.storage.uri) / "report"
    page = Path(write_report(run.storage.uri))
    assert page == folder / "index.html"
    first = page.stat()
    write_report(run.storage.uri)
    assert page.stat().st_ino == first.st_ino
    whole = page.read_bytes()
    page.write_bytes(whole[:-100])
    write_report(run.storage.uri)
    assert page.read_bytes() == whole
    second = page.stat()
    rank(run)
    write_report(run.storage.uri)
    assert page.stat().st_ino != second.st_ino
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "curve.png",
        "depth.png",
        "domains.png",
        "headline.png",
        "heatmap.png",
        "overlap.png",
    ]


def test_figures_beside_the_page_are_images(complete: Path) -> None:
    files = sorted((complete / "report").glob("*.png"))
    assert len(files) == 10
    for file in files:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            image.load()
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50, file.name


def test_a_sentence_has_its_commands_as_code_and_nothing_else_of_its_own() -> None:
    assert prose("First `a < b`, then `c`.") == "First <code>a &lt; b</code>, then <code>c</code>."
    assert prose("<b>`") == "&lt;b&gt;`"
