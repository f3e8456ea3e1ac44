"""What later stages were made from, followed link by link back to the committed rows of the capture.

Report and tables say by hash what they were made from; a link that does not hold is a problem, named with both ends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from rampipe.errors import RampipeError
from rampipe.tables.derived import read_stage
from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.finish import success_content
from rampipe.tables.record import CommitRecord
from rampipe.tables.run import Run
from rampipe.tables.storage import Storage

STAGES = ("ranking", "examples", "asked", "screen", "ablation", "speed", "report")
JUDGED: Mapping[str, tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = {
    "screen": (("screen", ("outcomes",), ("commits_sha256",)),),
    "ablation": (("ablation", ("outcomes",), ("commits_sha256",)),),
    "speed": (
        ("speed/answers", ("answers", "run_id"), ("answers", "commits_sha256")),
        ("speed/timings", ("timings", "run_id"), ("timings", "commits_sha256")),
    ),
}
"""Of the stages that judge runs of their own: the folder of those runs, and where `made_from` names run and rows."""


def read_stages(storage: Storage) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """`_SUCCESS.json` of every stage that has one, and problems of those that cannot be read."""
    found, problems = dict[str, dict[str, Any]](), list[str]()
    for stage in STAGES:
        path = f"{stage}/_SUCCESS.json"
        if storage.size(path) is None:
            continue
        try:
            content = json.loads(storage.read(path))
            _ = [*_files_of(content)]
            found[stage] = content
        except (ValueError, KeyError, TypeError, AttributeError):
            problems.append(f"{storage.uri}/{path}: damaged. Run the stage again.")
    return found, problems


def judged_runs(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
    """Folder, below the capture's, of each run that a stage judged, and the hash of its rows; None if unfinished."""
    for stage, links in JUDGED.items():
        for folder, name, rows in links if stage in stages else ():
            yield f"{folder}/{_at(stages[stage]['made_from'], name)}", _at(stages[stage]["made_from"], rows)


def stage_problems(
    run: Run, commits: Mapping[int, CommitRecord], stages: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Files of the stages that are not what they were, and tables that were made from other rows than the capture's."""
    committed = success_content(run, commits)["commits_sha256"]
    for stage, content in stages.items():
        place = f"{run.storage.uri}/{stage}"
        for path, digest in _files_of(content):
            data = run.storage.read(path) if run.storage.size(path) is not None else None
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                seen = "is missing" if data is None else "has changed since it was written"
                yield f"{run.storage.uri}/{path}: {seen}. Run the stage {stage} again."
        made_from = content["made_from"]
        if isinstance(made_from, dict) and fingerprint(made_from) != content["made_from_sha256"]:
            yield f"{place}/_SUCCESS.json: edited: what it was made from does not give its hash"
        rows = made_from.get("commits_sha256") if isinstance(made_from, dict) and stage not in JUDGED else None
        if rows is not None and rows != committed:
            yield f"{place}: was made from rows {rows[:12]}, the capture has {committed[:12]}. Run the stage again."


def judged_problems(run: Run, judged: Run, *, rows: str | None, success: str | None) -> Iterator[str]:
    """A run that a stage judged is of the same model, of this ranking, and has the rows that were judged."""
    place = judged.storage.uri
    if rows != success:
        yield f"{place}: its rows are {_short(success)}, judged were {_short(rows)}. Run the stage again."
    if judged.inputs.get("model") != run.inputs.get("model"):
        yield f"{place}: is of another model than the capture"
    chosen = judged.inputs.get("arms", {}).get("ranking_sha256")
    current = ranking_sha256(run)
    if current is not None and chosen != current:
        yield f"{place}: its heads are of ranking {_short(chosen)}, the current one is {_short(current)}. Run it again."


def ranking_sha256(run: Run) -> str | None:
    """Identity of the published ranking by its rows, as plans of arms name it; None while there is none."""
    try:
        table = read_stage(run.storage, "ranking").get("ranking")
    except RampipeError:  # damage is reported where the files are hashed
        return None
    if table is None:
        return None
    ordered = table.sort_by([(name, "ascending") for name in ("scope", "layer", "head")])
    return fingerprint({"run_id": run.run_id, "rows": ordered.to_pylist()})


def _files_of(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Paths and hashes: the report keeps them as an object, the stages as a list."""
    files = content["files"]
    if isinstance(files, dict):
        yield from files.items()
    else:
        yield from ((file["path"], file["sha256"]) for file in files)


def _at(value: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _short(digest: str | None) -> str:
    return "unfinished" if digest is None else digest[:12]
