"""Random faults on the processes of one driver, every few seconds, and the memory that they had before."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import psutil

from tests.faults.tally import Seen, Tally

ACTOR = "ray::TakesHalfASecond"
PAUSE_S = (1.0, 9.0)
COMMITS_BETWEEN = 2
"""Between two faults, however slow the machine is: it must not be the clock that lets nothing come up."""
ODDS = {"actor killed": 0.7, "actor stopped": 0.05, "node killed": 0.14, "driver killed": 0.015}
"""The rest of the draws only looks."""


class Disturber:
    """Of one driver. It remembers every process below it, so that none outlives the driver for long."""

    def __init__(
        self, driver: subprocess.Popen[bytes], tally: Tally, *, out: Path, nodes_file: Path, rng: random.Random
    ) -> None:
        self.driver, self.tally, self.out, self.nodes_file, self.rng = driver, tally, out, nodes_file, rng
        self.root = psutil.Process(driver.pid)
        self.num_commits, self.num_wanted, self.moved_s = 0, 0, tally.time_s
        self.below = set[psutil.Process]()

    def until_it_ends(self) -> None:
        """Until the driver ends, by itself or by us."""
        while self.driver.poll() is None:
            time.sleep(self.rng.uniform(*PAUSE_S))
            try:
                self.once()
            except psutil.NoSuchProcess:
                continue
        time.sleep(self.rng.uniform(0.0, 3.0))  # what it left behind goes on for a while
        for process in self.below:
            if process.is_running():
                process.kill()

    def once(self) -> None:
        self.below.update(self.root.children(recursive=True))
        actors = [process for process in self.below if is_actor(process)]
        self.look(actors)
        if self.num_commits < self.num_wanted:
            return
        kinds = [*ODDS, ""]
        kind = self.rng.choices(kinds, [*ODDS.values(), 1.0 - sum(ODDS.values())])[0]
        victims = {"node killed": self.nodes(), "driver killed": [self.root] if self.at_work else [], "": []}
        chosen = victims.get(kind, actors)
        if chosen:
            victim = self.rng.choice(chosen)
            victim.suspend() if kind == "actor stopped" else victim.kill()
            self.tally.kills[kind] += 1
            self.num_wanted = self.num_commits + COMMITS_BETWEEN

    @property
    def at_work(self) -> bool:
        return self.nodes_file.exists()

    def look(self, actors: list[psutil.Process]) -> None:
        num_commits = len(list(self.out.glob("*/_commits/*.json")))
        if num_commits != self.num_commits or not self.at_work:
            self.num_commits, self.moved_s = num_commits, self.tally.time_s
        self.tally.longest_silence_s = max(self.tally.longest_silence_s, self.tally.time_s - self.moved_s)
        if self.at_work:
            sizes = tuple(actor.memory_info().rss / 2**20 for actor in actors)
            age_s, size = time.time() - self.root.create_time(), self.root.memory_info().rss / 2**20
            if size:  # 0: it has ended, and nobody has waited for it yet
                self.tally.seen.append(Seen(self.tally.time_s, self.tally.drivers, age_s, size, sizes))

    def nodes(self) -> list[psutil.Process]:
        """The raylets that the driver started itself."""
        if not self.at_work:
            return []
        pids = {int(line) for line in self.nodes_file.read_text(encoding="utf-8").split()}
        return [process for process in self.below if process.pid in pids and process.is_running()]


def is_actor(process: psutil.Process) -> bool:
    try:
        return process.is_running() and "".join(process.cmdline()[:1]).startswith(ACTOR)
    except psutil.NoSuchProcess:
        return False
