"""The console script `rampipe`: look at runs from their files alone, without torch or Ray."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rampipe import __version__
from rampipe.errors import RampipeError

EXAMPLES = """examples:
  rampipe status runs/demo/<run_id>
  rampipe verify runs/demo/<run_id>
  rampipe verify s3://bucket/runs/<run_id>
  rampipe repair runs/demo/<run_id>    # then run the capture again: only damaged units are computed

exit codes: 0 fine, 1 unfinished or damaged, 2 the command line is wrong"""


def verify(directory: str) -> int:
    """Read every committed byte; print the row-set hash and every problem."""
    from rampipe.tables.storage import open_storage
    from rampipe.tables.verify import verify as verify_run

    report = verify_run(open_storage(directory))
    for problem in report.problems:
        print(f"problem: {problem}")
    print(f"units: {report.num_intact} of {report.num_units} intact")
    print(f"row-set hash: {report.row_set_hash}")
    print("ok" if report.ok else f"{len(report.problems)} problems")
    return 0 if report.ok else 1


def status(directory: str) -> int:
    """Print what is done, from the commit records alone; works while a capture is running."""
    from rampipe.tables.balance import balance
    from rampipe.tables.finish import read_success
    from rampipe.tables.run import open_run_dir

    run = open_run_dir(directory)
    account = balance(run)
    finished = read_success(run.storage) is not None
    print(f"run: {run.run_id}")
    print(f"units: {account.num_committed} of {account.num_units}")
    print(f"samples: {account.num_ok} ok, {account.num_errors} errors of {account.num_samples}")
    print(f"rows: {account.num_rows}")
    print(f"bytes: {account.num_bytes}")
    print(f"finished: {'yes' if finished else 'no'}")
    return 0 if finished else 1


def repair(directory: str) -> int:
    """Move damaged and unnamed files to _quarantine/. Only while no capture is running."""
    from rampipe.tables.repair import repair as repair_run
    from rampipe.tables.storage import open_storage

    report = repair_run(open_storage(directory))
    for path in report.moved:
        print(f"moved: {path}")
    print(f"units to compute: {len(report.units)}")
    return 0


COMMANDS = (verify, status, repair)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and call; our errors become one line and their exit code."""
    parser = argparse.ArgumentParser(
        prog="rampipe", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"rampipe {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        about = command.__doc__
        made = commands.add_parser(
            command.__name__,
            help=about,
            description=about,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument("directory", metavar="DIR", help="run folder or s3:// prefix")
        made.set_defaults(call=command)
    arguments = parser.parse_args(argv)
    try:
        return arguments.call(arguments.directory)
    except RampipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
