"""End a run early: from then on, the units that were needed are the run."""

from __future__ import annotations

from rampipe.tables.commit import quarantine
from rampipe.tables.record import COMMITS_FOLDER
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.stopped import STOPPED_PATH, Stopped


def stop_run(run: Run, stopped: Stopped) -> Run:
    """Publish why, and move what was committed beyond it to `_quarantine/`; returns the run as it is now.

    Only when no unit is being written. The first one to stop a run wins. What an unreachable process may still publish
    is ignored by readers, named by `rampipe verify` and moved by `rampipe repair`.
    """
    run.storage.publish(STOPPED_PATH, stopped.to_json())
    cut = open_run_dir(run.storage)
    kept = {unit.name for unit in cut.units}
    for folder in (COMMITS_FOLDER, *run.schemas):  # the record first: without it the other files are nothing
        for path in run.storage.list(folder):
            if path.rpartition("/")[2].partition(".")[0] not in kept:
                quarantine(run.storage, path, run.storage.read(path))
    return cut
