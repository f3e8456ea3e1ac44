"""Long error texts of Ray as one line that is equal for equal causes: no ids of processes or nodes, no secrets."""

from __future__ import annotations

import re

from rampipe.errors import RampipeError, SampleError, redact

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(?::\s|$)")
_EXIT_TYPE = re.compile(r"Worker exit type: (\w+)")
MAX_CHARACTERS = 500


def start_cause(text: str) -> str:
    """Why a constructor failed: the last exception of the traceback, or how the process ended."""
    if not raised_in_constructor(text):
        return death_cause(text)
    lines = [_ANSI.sub("", line).rstrip() for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if _EXCEPTION_LINE.match(line)]
    return _shortened(" ".join(lines[starts[-1] :]) if starts else lines[-1])


def raised_in_constructor(text: str) -> bool:
    """Whether Ray tells of an exception of the constructor, not of a process that vanished in it."""
    return "in its creation task" in text


def death_cause(text: str) -> str:
    """How a process ended."""
    lines = _ANSI.sub("", text).splitlines()
    first = lines[0].strip() if lines else "the worker is gone"
    exit_type = _EXIT_TYPE.search(text)
    return _shortened(f"{first} ({exit_type[1]})" if exit_type else first)


def failure_cause(cause: BaseException | None, text: str) -> str:
    """What a call raised. `text`: Ray's own words, for exceptions that could not be brought over."""
    if cause is None:
        lines = [line.strip() for line in _ANSI.sub("", text).splitlines() if line.strip()]
        return _shortened(lines[-1] if lines else "unknown error")
    return _shortened(f"{type(cause).__name__}: {cause}")


def is_job_level(cause: BaseException | None) -> bool:
    """Whether no sample can be to blame, e.g. for an output that cannot be written."""
    return isinstance(cause, RampipeError) and not isinstance(cause, SampleError)


def _shortened(text: str) -> str:
    return redact(" ".join(text.split()))[:MAX_CHARACTERS]
