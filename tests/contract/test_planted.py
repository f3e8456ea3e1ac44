"""The oracle: heads that look at the evidence by construction rank first, and with shuffled evidence they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.config import RankConfig
from rampipe.heads.rank import Ranking, rank_run
from rampipe.tables.shards import write_shards
from rampipe.testbed.planted import planted_samples, write_planted
from rampipe.types import HeadId
from tests.local_run import finished_run, make_config

PLANTED = (HeadId(1, 3), HeadId(3, 10))


def ranked(folder: Path, *, metric: str, shuffled: bool) -> Ranking:
    write_planted(folder / "model", heads=PLANTED)
    write_shards(planted_samples(count=24, seed=7, shuffled=shuffled), folder / "samples", split="eval")
    config = make_config(
        model=folder / "model",
        data=folder / "samples",
        out=folder / "runs",
        overrides=[
            "capture.unit_samples=8",
            "capture.queries=['question','last','answer']",
            "capture.peer_scores=true",
        ],
    )
    return rank_run(finished_run(config), RankConfig(metric=metric, k_frac=2 / 64, bootstrap_samples=200))


@pytest.mark.parametrize("metric", ["ram", "ram_last", "hit", "lift", "ocr_hit", "r2_score"])
def test_planted_heads_rank_first(tmp_path: Path, metric: str) -> None:
    ranking = ranked(tmp_path, metric=metric, shuffled=False)
    assert set(ranking.core_heads()) == set(PLANTED)
    first, third = ranking.ranking.row(0, named=True), ranking.ranking.row(2, named=True)
    assert first["selection_probability"] > 0.99
    assert first["low"] > 3 * third["high"]


def test_with_shuffled_evidence_they_do_not(tmp_path: Path) -> None:
    ranking = ranked(tmp_path, metric="ram", shuffled=True)
    planted = {(head.layer, head.head) for head in PLANTED}
    means = {
        (row["layer"], row["head"]): row["mean"]
        for row in ranking.ranking.iter_rows(named=True)
        if row["scope"] == "overall"
    }
    assert set(ranking.core_heads()) != set(PLANTED)
    assert max(means[head] for head in planted) < 0.1
