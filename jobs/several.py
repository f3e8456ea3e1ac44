"""Experiments one after the other: one that fails is named at the end and stops no other."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from jobs.experiments import Experiment, comparisons
from rampipe.config import RunConfig
from rampipe.errors import IncompleteError, RampipeError
from rampipe.heads.rank import STAGE
from rampipe.heads.ranking import to_frame
from rampipe.heads.scopes import OVERALL
from rampipe.heads.speed.stage import STAGE as TIMING
from rampipe.report.page import PAGE_PATH
from rampipe.report.silencing import STAGE as SILENCING
from rampipe.tables.derived import read_stage, stage_files
from rampipe.tables.run import open_run_dir
from rampipe.tables.storage import open_storage

REPORTS = "reports"

RunStages = Callable[[Experiment, Sequence[str], bool], tuple[str, bool]]
"""Every stage of one experiment: compared with the runs in these folders, and whether others publish into its run too.
Gives the run's folder, and whether nothing was left undone.
"""


def run_several(experiments: Sequence[Experiment], run_stages: RunStages) -> int:
    """Run what is not finished, and keep a report of each. Returns the exit code.

    Of rankings that are compared the first comes last, when there is something to compare it with.
    """
    compared = {group[0]: group[1:] for group in comparisons(experiments)}
    ordered = sorted(experiments, key=lambda one: (one.ranked_on is not None, one in compared))
    uris: dict[Experiment, str] = {}
    for one in ordered:
        print(f"experiment: {one.name}", flush=True)
        try:
            others = [other for other in compared.get(one, ()) if other in uris]
            uris[one] = _run(one, [uris[other] for other in others], run_stages, shared=_is_shared(one, ordered))
            if others:
                print("\n".join(overlap_lines({uris[other]: other.name for other in (one, *others)}, uris[one])))
        except RampipeError as error:
            print(f"error: {error}", file=sys.stderr)
        except Exception:  # noqa: BLE001 - the border of one experiment: a bug in it costs no other
            traceback.print_exc()
    failed = [one for one in ordered if one not in uris]
    print(f"experiments: {len(uris)} of {len(ordered)} done")
    for one in failed:
        print(f"failed: {one.name}", file=sys.stderr)
    return 1 if failed else 0


def _run(one: Experiment, others: Sequence[str], run_stages: RunStages, *, shared: bool) -> str:
    uri, complete = run_stages(one, others, shared)
    print(f"kept: {keep_report(one, uri)}")
    if not complete:
        raise IncompleteError(f"run {uri}: work was left undone. The same command goes on from there.")
    return uri


def _is_shared(one: Experiment, experiments: Sequence[Experiment]) -> bool:
    captured = [other.ranked_on or other.config for other in experiments]
    return captured.count(one.ranked_on or one.config) > 1


def leave_out(config: RunConfig, uri: str) -> None:
    """Take away the tables of stages that only other experiments on this run have; their answers and timings stay."""
    storage = open_storage(uri)
    for stage, split in ((SILENCING, config.ablate.split), (TIMING, config.speed.split)):
        if split is None and (files := stage_files(storage, stage)):
            for path in (f"{stage}/_SUCCESS.json", *files.values()):  # what names the others goes first
                storage.delete(path)


def overlap_lines(names: Mapping[str, str], uri: str) -> list[str]:
    """How far the heads of each two runs agree. names: of the experiments, by folder. uri: of the first run."""
    by_run = {open_run_dir(one).run_id: name for one, name in names.items()}
    table = to_frame(read_stage(open_storage(uri), STAGE)["overlap"])
    between = table.filter(pl.col("run_a") != pl.col("run_b"), pl.col("scope_a") == OVERALL)
    return [
        f"{by_run[pair['run_a']]} | {by_run[pair['run_b']]}: {pair['num_shared']} of {pair['num_core']} heads shared, "
        f"rank correlation {'undefined' if pair['spearman'] is None else format(pair['spearman'], '.2f')}"
        for pair in between.iter_rows(named=True)
    ]


def keep_report(one: Experiment, uri: str) -> str:
    """The page of a run under the experiment's name: a run that several share shows the last of them alone.

    Returns where it is.
    """
    page = open_storage(uri).read(PAGE_PATH)
    kept, name = open_storage(one.config.out).child(REPORTS), f"{one.name.replace(' · ', '--')}.html"
    if kept.size(name) is None or kept.read(name) != page:
        kept.replace(name, page)
    return f"{kept.uri.rstrip('/')}/{name}"
