from __future__ import annotations

from rampipe.engine.failures import MAX_CHARACTERS, death_cause, failure_cause, is_job_level, start_cause
from rampipe.errors import SampleError, StorageError

CONSTRUCTOR = """The actor died because of an error raised in its creation task, \x1b[36mray::W.__init__()\x1b[39m \
(pid={pid}, ip=127.0.0.1, actor_id={pid}00, repr=<W object at 0x7f11>)
           ^^^^^^^^^^^^^^^^^^^^
  File "worker.py", line 15, in __init__
rampipe.errors.ModelError: {what}
second line"""
DEATH = """The actor died unexpectedly before finishing this task.
\tclass_name: W
\tpid: {pid}
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: ..."""


def test_equal_causes_are_equal_texts() -> None:
    one, other = (start_cause(CONSTRUCTOR.format(pid=pid, what="no weights")) for pid in (1, 22))
    assert one == other == "rampipe.errors.ModelError: no weights second line"
    assert start_cause(CONSTRUCTOR.format(pid=1, what="no tokenizer")) != one


def test_a_process_that_vanished_has_no_ids_in_its_cause() -> None:
    assert death_cause(DEATH.format(pid=1)) == death_cause(DEATH.format(pid=2)) == start_cause(DEATH.format(pid=3))
    assert "SYSTEM_ERROR" in death_cause(DEATH.format(pid=1))


def test_what_a_call_raised_is_named_and_short() -> None:
    assert failure_cause(KeyError("a"), "text") == "KeyError: 'a'"
    assert failure_cause(None, "Traceback\n  File x\nValueError: b") == "ValueError: b"
    assert len(failure_cause(ValueError("x" * 10_000), "")) == MAX_CHARACTERS


def test_only_our_errors_that_no_sample_can_cause_end_the_job() -> None:
    assert is_job_level(StorageError("read-only"))
    assert not is_job_level(SampleError("bad", stage="decode", code="image_corrupt"))
    assert not is_job_level(KeyError("a"))
    assert not is_job_level(None)
