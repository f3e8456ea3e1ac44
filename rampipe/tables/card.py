"""The README.md of a run: a dataset card, so that the folder is a Hugging Face dataset as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rampipe.tables.balance import Balance
from rampipe.tables.run import Run
from rampipe.tables.schema import load_schema

CARD_PATH = "README.md"
_STAGES = ("ranking", "screen", "ablation", "speed")
"""Stages whose tables become configurations of the dataset, once they exist."""


def write_card(run: Run, account: Balance) -> None:
    """Write or refresh the card. It is derived: nothing reads it back."""
    tables = {name: f"{name}/*.parquet" for name in ("head_stats", "samples", "errors")}
    for stage in _STAGES:
        tables |= _stage_tables(stage, run.storage.list(stage))
    run.storage.replace(CARD_PATH, card_text(run, account, tables).encode())


def _stage_tables(stage: str, paths: Sequence[str]) -> dict[str, str]:
    """Tables of a stage itself, not of the runs below it. Names that two stages share get that of the stage."""
    names = [path.removeprefix(f"{stage}/") for path in paths]
    tables = [name.removesuffix(".parquet") for name in names if name.endswith(".parquet") and "/" not in name]
    short = tables if stage == "ranking" else [name if name == stage else f"{stage}_{name}" for name in tables]
    return {name: f"{stage}/{table}.parquet" for name, table in zip(short, tables, strict=True)}


def card_text(run: Run, account: Balance, tables: Mapping[str, str]) -> str:
    """YAML header with one configuration per table (name to files), then prose. `head_stats` is the default."""
    header = ["---", f"pretty_name: {json.dumps(run.run_id)}", "tags:", "- attention", "- rampipe", "configs:"]
    for name, files in tables.items():
        header += [f"- config_name: {name}", f"  data_files: {json.dumps(files)}"]
        header += ["  default: true"] if name == "head_stats" else []
    schema = load_schema(run.schemas["head_stats"])
    columns = [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in schema.columns]
    about = run.inputs["run"]
    body = [
        "---",
        "",
        f"# Attention statistics of {about['model']} on {about['dataset']}",
        "",
        f"{schema.meaning} Written by [rampipe](https://pypi.org/project/rampipe/) {run.versions.get('rampipe', '')}.",
        "",
        f"- {account.num_ok} samples measured, {account.num_errors} failed (table `errors`), {account.num_rows} rows",
        *([] if run.stopped is None else [f"- {run.stopped.sentence}"]),
        f"- {run.num_heads} heads, query rows: {', '.join(run.queries)}",
        f"- fingerprint `{run.fingerprint}` (its inputs are in `run.json`), created {run.created}",
        "",
        "```python",
        "import datasets, rampipe",
        "",
        'rows = datasets.load_dataset("<this folder>", "head_stats", split="train")',
        'frame = rampipe.open_run("<this folder>").head_stats.collect()',
        "```",
        "",
        "| column of `head_stats` | type | meaning |",
        "|---|---|---|",
        *columns,
    ]
    return "\n".join([*header, *body]) + "\n"
