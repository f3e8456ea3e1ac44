"""Samples and a model to head statistics: `python -m jobs.capture --config FILE.toml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import add_run_flags, parser, run, run_config
from jobs.stopping import add_stop_flag, make_watch
from jobs.submission import add_submit_flags, is_submitted
from rampipe.engine.capture import run_capture

EXAMPLES = (
    "python -m jobs.capture --config jobs/configs/demo.toml",
    "python -m jobs.capture --config my.toml --limit 100 --plan",
    "python -m jobs.capture --config my.toml --until-stable 0.95",
    "python -m jobs.capture --config my.toml --out s3://bucket/runs --submit",
)


def capture(arguments: argparse.Namespace) -> int:
    config = run_config(arguments)
    watch = make_watch(config)
    if is_submitted(arguments, config, stage="capture"):
        return 0
    outcome = run_capture(config, plan_only=arguments.plan, make_watch=watch)
    return 0 if outcome.complete or arguments.plan else 1


def main(argv: Sequence[str] | None = None) -> int:
    made = parser("capture", about="Measure every head on every sample; resumes where it stopped.", examples=EXAMPLES)
    add_run_flags(made)
    add_stop_flag(made)
    add_submit_flags(made)
    return run(capture, made, argv)


if __name__ == "__main__":
    sys.exit(main())
