"""What every job's command line shares: the same flags, the same exit codes, errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rampipe.config import RunConfig, load_config
from rampipe.errors import RampipeError

Command = Callable[[argparse.Namespace], int]


def parser(name: str, *, about: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the flags that all jobs have. `examples` are whole command lines, shown by --help."""
    made = argparse.ArgumentParser(
        prog=f"python -m jobs.{name}",
        description=about,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples)
        + "\n\nexit codes: 0 done, 1 work left undone or failed, 2 the configuration is wrong",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--config", metavar="FILE.toml", help="configuration of the run")
    changes = "change one key of the configuration, e.g. --set rank.k_frac=0.1; may be repeated"
    made.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides", help=changes)
    return made


def add_run_flags(made: argparse.ArgumentParser) -> None:
    """Flags of the jobs that start from a model and data."""
    made.add_argument("--out", metavar="DIR", help="folder or s3:// prefix that receives the run")
    made.add_argument("--limit", metavar="N", type=int, help="only the first N samples")
    made.add_argument("--plan", action="store_true", help="print units, bytes and time, start nothing")


def run_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration of a job's command line; flags win over the file."""
    return load_config(arguments.config, run_overrides(arguments))


def run_overrides(arguments: argparse.Namespace) -> list[str]:
    """What a job's flags change."""
    overrides = [*arguments.overrides]
    if arguments.out is not None:
        overrides.append(f'out="{arguments.out}"')
    if arguments.limit is not None:
        overrides.append(f"data.limit={arguments.limit}")
    return overrides


def run(command: Command, made: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, call, and turn our errors into one line and their exit code. Foreign errors keep their traceback."""
    arguments = made.parse_args(argv)
    try:
        return command(arguments)
    except RampipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: what is committed is kept; the same command goes on from there", file=sys.stderr)
        return 130
