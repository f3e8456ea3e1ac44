"""Whether the published page is about the tables that are there now: the last link of the chain back to the capture."""

from __future__ import annotations

import json

from rampipe.errors import RampipeError
from rampipe.report.page import SUCCESS_PATH
from rampipe.report.sources import read_sources
from rampipe.tables.storage import open_storage


def report_problems(run_path: str) -> tuple[str, ...]:
    """What is wrong between a report and its tables; nothing when there is no report."""
    storage = open_storage(run_path)
    place = f"{storage.uri}/{SUCCESS_PATH}"
    if storage.size(SUCCESS_PATH) is None:
        return ()
    try:
        made_from = json.loads(storage.read(SUCCESS_PATH))["made_from"]
        current = read_sources(run_path).digest()
    except (ValueError, KeyError, TypeError):
        return (f"{place}: damaged. Run `python -m jobs.report` again.",)
    except RampipeError as error:
        return (f"{place}: cannot be compared with its tables: {error}",)
    if made_from != current:
        return (f"{place}: the page was made from other tables or by another version. Run `python -m jobs.report`.",)
    return ()
