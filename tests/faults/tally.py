"""What a soak did and saw, as it goes on: kills by kind, and the memory of the driver and its actors over time."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

NUM_SPANS = 6
KINDS = ("actor killed", "actor stopped", "node killed", "driver killed", "driver gave up")


@dataclass(frozen=True, slots=True)
class Seen:
    """Resident memory at one moment. driver_age_s: since that driver started; driver: its number."""

    time_s: float
    driver: int
    driver_age_s: float
    driver_mib: float
    actors_mib: tuple[float, ...]


@dataclass
class Tally:
    """Times in seconds since the start."""

    samples: int
    runs: int = 0
    drivers: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    seen: list[Seen] = field(default_factory=list[Seen])
    longest_silence_s: float = 0.0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def time_s(self) -> float:
        return time.monotonic() - self.started_s

    def lines(self, golden_hash: str) -> list[str]:
        """For the page."""
        kills = ", ".join(f"{kind} {self.kills[kind]} times" for kind in KINDS)
        return [
            f"{self.time_s / 60:.0f} minutes on {time.strftime('%Y-%m-%d')}, three nodes (real raylets): {self.runs} "
            f"runs of {self.samples} samples each, by {self.drivers} drivers. {kills}. The longest time without a "
            f"commit while a driver was at work was {self.longest_silence_s:.0f} s.",
            "",
            f"Every run ended with the row-set hash of the undisturbed run, `{golden_hash[:16]}`; no file that was "
            "committed before a driver died was touched.",
            "",
            "| minutes | driver, MiB: median | largest | an actor, MiB: median | largest |",
            "|---|---|---|---|---|",
            *self.memory_rows(),
            "",
            self.longest_driver(),
        ]

    def memory_rows(self) -> list[str]:
        span_s = self.time_s / NUM_SPANS
        return [
            memory_row(
                f"{number * span_s / 60:.0f} to {(number + 1) * span_s / 60:.0f}",
                [seen for seen in self.seen if number * span_s <= seen.time_s < (number + 1) * span_s],
            )
            for number in range(NUM_SPANS)
        ]

    def longest_driver(self) -> str:
        """Growth of one process: only the one that lived longest can show it."""
        if not self.seen:
            return "No driver was seen at work."
        oldest = max(self.seen, key=lambda seen: seen.driver_age_s)
        its_own = [seen for seen in self.seen if seen.driver == oldest.driver]
        tenth = max(1, len(its_own) // 10)
        first, last = (
            statistics.median(seen.driver_mib for seen in part) for part in (its_own[:tenth], its_own[-tenth:])
        )
        return (
            f"The driver that lived longest, {oldest.driver_age_s / 60:.0f} minutes, had {first:.0f} MiB in the first "
            f"tenth of its life and {last:.0f} MiB in the last."
        )


def memory_row(name: str, seen: Sequence[Seen]) -> str:
    drivers, actors = [one.driver_mib for one in seen], [mib for one in seen for mib in one.actors_mib]
    figures = [
        f"{figure:.0f}" for values in (drivers, actors) if values for figure in (statistics.median(values), max(values))
    ]
    return f"| {name} | {' | '.join(figures if len(figures) == 4 else ['not seen'] * 4)} |"
