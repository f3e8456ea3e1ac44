from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from rampipe.engine.progress import Progress


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "log").open("w") as file:
        yield file


def lines(stream: TextIO) -> list[dict]:
    stream.flush()
    return [json.loads(line)["progress"] for line in Path(stream.name).read_text().splitlines()]


def test_a_line_every_ten_seconds_and_one_at_the_end(stream: TextIO) -> None:
    clock = Clock()
    with Progress(num_units=4, num_samples=40, stream=stream, clock=clock) as progress:
        progress.beat(num_replicas=2)
        clock.now_s = 9.0
        progress.add(num_ok=9, num_errors=1, forward_s=3.0, device_s=4.0)
        assert lines(stream) == []
        clock.now_s = 10.0
        progress.beat()
        progress.beat()
        assert len(lines(stream)) == 1
    first, last = lines(stream)
    assert first == last
    assert first == {
        "units_done": 1,
        "units": 4,
        "samples_done": 10,
        "samples": 40,
        "errors": 1,
        "replicas": 2,
        "samples_per_s": 1.0,
        "device_busy_frac": 0.75,
        "seconds_left": 30,
    }


def test_a_rate_of_nothing_is_null(stream: TextIO) -> None:
    with Progress(num_units=4, num_samples=40, stream=stream, clock=Clock()):
        pass
    (only,) = lines(stream)
    assert only["samples_per_s"] is None
    assert only["seconds_left"] is None
    assert only["device_busy_frac"] is None


def test_units_that_nobody_timed_say_nothing_about_the_device(stream: TextIO) -> None:
    with Progress(num_units=4, num_samples=40, stream=stream, clock=Clock()) as progress:
        progress.add(num_ok=1, num_errors=0)
        assert progress.device_busy_frac is None
        progress.add(num_ok=1, num_errors=0, forward_s=1.0, device_s=2.0)
        progress.add(num_ok=1, num_errors=0, forward_s=5.0, device_s=6.0)
        assert progress.device_busy_frac == 0.75


def test_a_terminal_gets_a_bar_and_no_json() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, Progress(num_units=2, num_samples=8, stream=terminal) as progress:
        progress.add(num_ok=3, num_errors=1, forward_s=13.0, device_s=14.0)
    seen = b""
    with suppress(OSError):  # how a terminal ends
        while piece := os.read(ours, 100_000):
            seen += piece
    os.close(ours)
    assert b"1/2" in seen
    assert b"1 errors" in seen
    assert b"device busy 93%" in seen
    assert b"progress" not in seen
