"""Runs of an earlier schema version: read, verified and ranked as they are, and not gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe import open_run
from rampipe.config import RankConfig
from rampipe.errors import ConfigError
from rampipe.heads.rank import rank_run
from rampipe.tables.run import Run, create_run
from rampipe.tables.schema import load_schema
from rampipe.tables.verify import verify
from tests.unit.tables.earlier import into_earlier
from tests.unit.tables.synthetic import capture, spec


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    """The same rows in tables of today and of the first version."""
    return capture(str(tmp_path / "now")), into_earlier(capture(str(tmp_path / "then")))


def test_its_rows_are_read_and_verified(runs: tuple[Run, Run]) -> None:
    now, then = (open_run(run.storage.uri) for run in runs)
    assert then.run.schemas == {"errors": "errors.v1", "samples": "samples.v1", "head_stats": "head_stats.v1"}
    for table in ("head_stats", "samples"):
        names = load_schema(f"{table}.v1").arrow_schema.names
        later, earlier = getattr(now, table).collect(), getattr(then, table).collect()
        assert earlier.columns == names
        assert len(later.columns) > len(names)
        assert later.select(names).equals(earlier)
    assert verify(then.run.storage).problems == ()
    assert "| `hit` |" in then.run.storage.read("README.md").decode()
    assert "copied" not in then.run.storage.read("README.md").decode()


def test_it_is_ranked_by_what_it_holds_and_refused_by_name_for_more(runs: tuple[Run, Run]) -> None:
    config = RankConfig(k_frac=0.2, bootstrap_samples=20)
    now, then = (rank_run(run.storage.uri, config) for run in runs)
    assert now.ranking.equals(then.ranking)
    for metric, column in (("copy_score", "copied"), ("ocr_hit", "hit_per_patch"), ("r2_score", "mass_evidence_top")):
        wanted = config.model_copy(update={"metric": metric})
        with pytest.raises(ConfigError, match=f"{column}.*which the tables of run .* do not have"):
            rank_run(runs[1].storage.uri, wanted)
        with pytest.raises(ConfigError, match="needs query group 'answer'"):  # twin: the columns are there
            rank_run(runs[0].storage.uri, wanted)


def test_it_is_not_gone_on_with(runs: tuple[Run, Run]) -> None:
    parent = str(Path(runs[1].storage.uri).parent)
    with pytest.raises(ConfigError, match=r"run\.schemas\.head_stats.*head_stats\.v1.*head_stats\.v2"):
        create_run(parent, spec(), run_id=runs[1].run_id)
