"""The flag that ends a capture early."""

from __future__ import annotations

import argparse

import pytest

from jobs.command import run_config
from jobs.stopping import add_stop_flag, make_watch
from rampipe.errors import ConfigError

NEEDED = ["--set", "model.path=m", "--set", "data.path=d"]


def parsed(*flags: str) -> argparse.Namespace:
    made = argparse.ArgumentParser()
    made.add_argument("--set", action="append", default=[], dest="overrides")
    made.set_defaults(config=None, out=None, limit=None)
    add_stop_flag(made)
    return made.parse_args([*NEEDED, *flags])


def test_the_flag_is_a_key_of_the_configuration() -> None:
    assert run_config(parsed("--until-stable", "0.9", "--set", "stop.seed=3")).stop.model_dump() == {
        "level": 0.9,
        "tolerance_frac": 0.0,
        "item": "context",
        "seed": 3,
        "on_request": False,
    }
    assert run_config(parsed()).stop.level is None
    assert make_watch(run_config(parsed())) is None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--until-stable", "1.5"], r"stop\.level = 1\.5"),
        (["--until-stable", "0.9", "--set", "rank.metric=lift"], r"stop\.level with rank\.metric = 'lift'"),
        (["--until-stable", "0.9", "--set", "rank.metric=ram_answer"], r"Add 'answer' to capture\.queries"),
    ],
)
def test_what_nothing_can_be_certain_about_is_refused_before_anything_starts(flags: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_watch(run_config(parsed(*flags)))
