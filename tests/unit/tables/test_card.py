"""The dataset card names every table of the stages once, and none of the runs below them."""

from __future__ import annotations

import re
from pathlib import Path

from rampipe.config import AblateConfig
from rampipe.heads.plan import arms_table, make_plan
from rampipe.heads.verdict import judge
from rampipe.tables.derived import publish_stage
from tests.unit.heads.made_outcomes import made_outcomes, top_matters
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_runs import written_outcomes
from tests.unit.heads.planted import Study, planted_masses, write_run

PLAN = make_plan(made_ranking({"overall": random_means()}), AblateConfig(fracs=(0.05,), seeds=1), kv_heads=8)


def configurations(card: str) -> dict[str, str]:
    return dict(re.findall(r'- config_name: (\S+)\n  data_files: "([^"]+)"', card))


def test_stages_with_the_same_tables_are_told_apart(tmp_path: Path) -> None:
    run = write_run(tmp_path, Study(planted_masses(8, {})))
    own = {name: f"{name}/*.parquet" for name in ("head_stats", "samples", "errors")}
    assert configurations(run.storage.read("README.md").decode()) == own
    rows = made_outcomes(PLAN, top_matters)
    accuracy, _ = judge(rows.lazy(), PLAN, bootstrap_samples=10)
    tables = {"accuracy": accuracy.to_arrow(), "arms": arms_table(PLAN)}
    for stage in ("ablation", "speed"):
        written_outcomes(run, rows, PLAN, folder=stage)
        publish_stage(run.storage, stage, tables, {"made": stage})
    below = [path for path in run.storage.list("ablation") if "/outcomes/" in path]
    assert below  # what must not be listed is there
    assert configurations(run.storage.read("README.md").decode()) == {
        **own,
        "ablation_accuracy": "ablation/accuracy.parquet",
        "ablation_arms": "ablation/arms.parquet",
        "speed_accuracy": "speed/accuracy.parquet",
        "speed_arms": "speed/arms.parquet",
    }
