"""From a dataset's published files to a ranking and an ablation by the jobs' own command lines, on a real Ray."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from jobs import ablate, capture, rank
from rampipe.testbed.checkpoint import weights_path
from tests.unit.data.layouts import LAYOUTS, SPLITS

pytestmark = pytest.mark.cluster

ONE_OF_EACH_KIND = ("boundingdocs", "mmdocir", "mm_niah")
"""Parquet with images in it, pages of one file by row, and lines beside image files; all others run in one process in
tests/contract/test_dataset_flow.py.
"""


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
@pytest.mark.usefixtures("local_ray")
def test_capture_rank_ablate(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / "files")
    file = tmp_path / "my.toml"
    file.write_text(
        f'out = "{tmp_path}/runs"\n[model]\npath = "{weights_path()}"\ndtype = "float32"\n'
        f'[data]\nsource = "{name}"\npath = "{tmp_path}/files"\n'
        "[evidence]\nmin_overlap = 0\n[capture]\npredict_tokens = 2\nunit_samples = 2\n"
        "[cluster]\nreplicas = 1\ngpus_per_replica = 0\n[rank]\nbootstrap_samples = 20\n"
        f'[ablate]\nsplit = "{SPLITS[name]}"\nstrategies = ["top"]\nfracs = [0.0, 0.05]\nallow_same_samples = true\n'
        "bootstrap_samples = 20\n",
        encoding="utf-8",
    )
    assert capture.main(["--config", str(file)]) == 0
    (run,) = (path.parent for path in (tmp_path / "runs").glob("*/_SUCCESS.json"))
    assert rank.main([str(run), "--config", str(file)]) == 0
    assert ablate.main([str(run), "--config", str(file)]) == 0
    num_samples = pl.read_parquet(run / "samples/*.parquet").height
    accuracy = pl.read_parquet(run / "ablation/accuracy.parquet").filter(pl.col("scope") == "overall")
    assert accuracy.get_column("num_samples").to_list() == [num_samples] * 2
    assert pl.read_parquet(run / "errors/*.parquet").is_empty()
