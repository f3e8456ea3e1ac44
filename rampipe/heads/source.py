"""A run as the ranking reads it: verified, and whole unless the user said otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rampipe.errors import IncompleteError
from rampipe.tables.finish import SUCCESS_PATH, read_success, success_content
from rampipe.tables.read import OpenRun, open_run


@dataclass(frozen=True, slots=True)
class RankSource:
    """An opened run. commits_sha256: identifies the rows that are ranked. partial: null for a finished run."""

    opened: OpenRun
    commits_sha256: str
    partial: dict[str, Any] | None

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.opened.run.run_id


def open_source(uri: str, *, allow_partial: bool) -> RankSource:
    """Open a run for ranking. Sizes are compared here; pages of `head_stats` are verified as they are read, and
    `samples` is hashed, since Polars reads a flipped bit as a wrong value.

    Raises IncompleteError with the numbers for a run that is not finished or does not balance, unless
    `allow_partial`; StorageError for files that are not what was committed.
    """
    opened = open_run(uri, check={"samples": "sha256"})
    commits_sha256 = success_content(opened.run, opened.commits)["commits_sha256"]
    success = read_success(opened.run.storage)
    account = opened.balance
    problems = list(account.problems)
    if success is None:
        problems.append(f"there is no {SUCCESS_PATH}")
    elif success.commits_sha256 != commits_sha256:
        problems.append(f"{SUCCESS_PATH} is about other files")
    if not problems:
        return RankSource(opened, commits_sha256, None)
    if not allow_partial:
        raise IncompleteError(
            f"run {opened.run.storage.uri} is not finished: {account.num_committed} of {account.num_units} units, "
            f"{account.num_ok} ok + {account.num_errors} errors of {account.num_samples} samples; "
            f"{'; '.join(problems[:5])}. Run capture again, which goes on where it stopped, or rank what is there "
            "with --allow-partial."
        )
    partial = {
        "num_units": account.num_units,
        "num_committed": account.num_committed,
        "num_samples": account.num_samples,
        "num_ok": account.num_ok,
        "num_errors": account.num_errors,
        "problems": problems,
    }
    return RankSource(opened, commits_sha256, partial)
