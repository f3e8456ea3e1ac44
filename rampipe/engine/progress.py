"""How a run is going: a bar where a person looks on, otherwise one JSON line every 10 s and one at the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_INTERVAL_S = 10.0


class Progress:
    """Counts committed units. Use it as a context manager; `add` after each unit, `beat` whenever there is time."""

    def __init__(
        self,
        *,
        num_units: int,
        num_samples: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock or time.monotonic
        self._num_units, self._num_samples = num_units, num_samples
        self._units_done = self._samples_done = self._num_errors = 0
        self._num_replicas = 0
        self._started_s = self._last_line_s = self._clock()
        self._bar = self._make_bar() if self._stream.isatty() else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._write_line()

    def add(self, *, num_ok: int, num_errors: int) -> None:
        """One more unit is committed."""
        self._units_done += 1
        self._samples_done += num_ok + num_errors
        self._num_errors += num_errors
        self.beat()

    def beat(self, *, num_replicas: int | None = None) -> None:
        """Show the time that went by."""
        self._num_replicas = self._num_replicas if num_replicas is None else num_replicas
        now_s = self._clock()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._units_done, status=self._status())
        elif now_s - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = now_s
            self._write_line()

    def state(self) -> dict[str, Any]:
        """The numbers of one line. Rate and time left are null until a unit is done."""
        elapsed_s = self._clock() - self._started_s
        rate = self._samples_done / elapsed_s if self._samples_done and elapsed_s > 0 else None
        left = self._num_samples - self._samples_done
        return {
            "units_done": self._units_done,
            "units": self._num_units,
            "samples_done": self._samples_done,
            "samples": self._num_samples,
            "errors": self._num_errors,
            "replicas": self._num_replicas,
            "samples_per_s": None if rate is None else round(rate, 2),
            "seconds_left": None if rate is None else round(left / rate),
        }

    def _write_line(self) -> None:
        self._stream.write(json.dumps({"progress": self.state()}) + "\n")
        self._stream.flush()

    def _make_bar(self) -> Bar:
        bar = Bar(
            TextColumn("units"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
        )
        bar.add_task("units", total=self._num_units, status=self._status())
        return bar

    def _status(self) -> str:
        state = self.state()
        rate = "-" if state["samples_per_s"] is None else f"{state['samples_per_s']:.1f}"
        return f"{rate} samples/s  {state['errors']} errors  {state['replicas']} replicas"
