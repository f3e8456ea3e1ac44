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
        self._forward_s = self._device_s = 0.0
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

    def add(
        self, *, num_ok: int, num_errors: int, forward_s: float | None = None, device_s: float | None = None
    ) -> None:
        """One more unit is committed, after its device computed for `forward_s` of the `device_s` that it had it."""
        if forward_s is not None and device_s is not None:
            self._forward_s += forward_s
            self._device_s += device_s
        self._units_done += 1
        self._samples_done += num_ok + num_errors
        self._num_errors += num_errors
        self.beat()

    @property
    def device_busy_frac(self) -> float | None:
        """Share of the devices' time in which they computed, over all units so far; None until one was timed."""
        return self._forward_s / self._device_s if self._device_s > 0 else None

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
        """The numbers of one line. What is not known until a unit is done is null."""
        elapsed_s = self._clock() - self._started_s
        rate = self._samples_done / elapsed_s if self._samples_done and elapsed_s > 0 else None
        left = self._num_samples - self._samples_done
        busy = self.device_busy_frac
        return {
            "units_done": self._units_done,
            "units": self._num_units,
            "samples_done": self._samples_done,
            "samples": self._num_samples,
            "errors": self._num_errors,
            "replicas": self._num_replicas,
            "samples_per_s": None if rate is None else round(rate, 2),
            "device_busy_frac": None if busy is None else round(busy, 3),
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
        busy = "" if state["device_busy_frac"] is None else f"  device busy {state['device_busy_frac']:.0%}"
        return f"{rate} samples/s  {state['errors']} errors  {state['replicas']} replicas{busy}"
