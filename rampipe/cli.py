"""The console script `rampipe`: look at runs and datasets from their files alone, without torch or Ray."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rampipe import __version__
from rampipe.errors import ConfigError, RampipeError, SampleError

EXAMPLES = """examples:
  rampipe status runs/demo/<run_id>
  rampipe verify runs/demo/<run_id>
  rampipe verify s3://bucket/runs/<run_id>
  rampipe repair runs/demo/<run_id>    # then run the capture again: only damaged units are computed
  rampipe heads export runs/demo/<run_id> ours.json --format head_score
  rampipe data check samples/          # is every sample usable, and does its evidence lie where it should?

exit codes: 0 fine, 1 unfinished or damaged, 2 the command line is wrong"""

DATA_EXAMPLES = """examples:
  rampipe data check samples/
  rampipe data check SROIE/ --source sroie --split eval --draw 8 --out pictures/
  rampipe data check s3://bucket/samples --limit 1000 --draw 0
  rampipe data haystack SROIE/ haystacks/ --source sroie --split eval --distractors 20 --depths 0,0.5,1
  rampipe data haystack SROIE/ haystacks-8k/ --source sroie --tokens 8192 --model Qwen/Qwen2.5-VL-7B-Instruct
  rampipe data haystack SROIE/ packed-32k/ --source sroie --packed --tokens 32768 --model Qwen/Qwen2.5-VL-7B-Instruct

exit codes: 0 every sample is usable, 1 some are not, 2 the dataset or the command line is wrong"""

HEADS_EXAMPLES = """examples:
  rampipe heads import RUN head_score/model.json --format head_score
  rampipe heads import RUN full_attention_heads.tsv --format duo_attention --kv-heads 8 --name duo
  rampipe heads export RUN ours.json --format qrhead
An imported list is compared with the ranking by the next `python -m jobs.report RUN`. The line that is printed goes
into [ablate] or [speed], with strategies = ["from_list"].

exit codes: 0 done, 2 the list or the command line is wrong"""


def verify(directory: str) -> int:
    """Read every committed byte, and follow report and tables back to it; print the row-set hash and every problem."""
    from rampipe.report.audit import report_problems
    from rampipe.tables.storage import open_storage
    from rampipe.tables.verify import verify as verify_run

    report = verify_run(open_storage(directory))
    problems = (*report.problems, *report_problems(directory))
    for problem in problems:
        print(f"problem: {problem}")
    print(f"units: {report.num_intact} of {report.num_units} intact")
    print(f"row-set hash: {report.row_set_hash}")
    print(f"{len(problems)} problems" if problems else "ok")
    return 1 if problems else 0


def status(directory: str) -> int:
    """Print what is done and how fast, from the files alone; works while a capture is running, and after it died."""
    from rampipe.tables.status import read_status
    from rampipe.tables.storage import open_storage

    found = read_status(open_storage(directory), now_s=time.time())
    print("\n".join(found.lines()))
    return 0 if found.finished else 1


def repair(directory: str) -> int:
    """Move damaged and unnamed files to _quarantine/. Only while no capture is running."""
    from rampipe.tables.repair import repair as repair_run
    from rampipe.tables.storage import open_storage

    report = repair_run(open_storage(directory))
    for path in report.moved:
        print(f"moved: {path}")
    print(f"units to compute: {len(report.units)}")
    return 0


def data_check(arguments: argparse.Namespace) -> int:
    """Read every sample; count what is there and what would become an error row; draw the evidence of a few."""
    from rampipe.config import DataConfig
    from rampipe.data import open_source
    from rampipe.data.check import CheckReport, check_row, read_rows, report_lines
    from rampipe.data.evidence_pictures import draw_evidence

    source = open_source(DataConfig(source=arguments.source, path=arguments.path, split=arguments.split))
    report, drawn = CheckReport(), list[tuple[str, str]]()
    folder = Path(arguments.out)
    for row in read_rows(source, limit=arguments.limit):
        sample = check_row(report, row)
        if sample is not None and len(drawn) < arguments.draw:
            folder.mkdir(parents=True, exist_ok=True)
            stem = f"sample-{report.num_samples - 1:06d}"
            try:
                paths = draw_evidence(sample, folder, stem=stem, max_images=arguments.draw - len(drawn))
            except SampleError as error:
                print(f"not drawn: {error}")
                continue
            drawn += [(sample.sample_id, str(path)) for path in paths]
    for line in report_lines(report):
        print(line)
    for sample_id, path in drawn:
        print(f"drawn: {path} ({sample_id})")
    return 0 if report.num_ok and not report.num_errors else 1


def data_haystack(arguments: argparse.Namespace) -> int:
    """Write a long-context dataset: each sample's one image, numbered, among others of the same dataset."""
    from rampipe.config import DataConfig
    from rampipe.data import open_source
    from rampipe.data.haystack import write_haystacks
    from rampipe.data.haystack_packed import write_packed

    if arguments.tokens is not None and arguments.model is None:
        raise ConfigError("--tokens needs --model: tokens are counted by a model's own processor.")
    if arguments.packed and arguments.depths:
        raise ConfigError("--packed and --depths: a packed needle's depth is its image's place. Give one of them.")
    source = open_source(DataConfig(source=arguments.source, path=arguments.path, split=arguments.split))
    size = arguments.distractors if arguments.tokens is None else _token_budget(arguments)
    made = {"size": size, "seed": arguments.seed, "limit": arguments.limit}
    report = (
        write_packed(source, arguments.out, **made)
        if arguments.packed
        else write_haystacks(source, arguments.out, depths=arguments.depths or (0.5,), **made)
    )
    print(f"samples: {report.num_written} written to {arguments.out}, from {report.num_images} distinct images")
    for code, count in sorted(report.skipped.items()):
        print(f"  skipped, {code}: {count}")
    return 0 if report.num_written else 1


def _token_budget(arguments: argparse.Namespace) -> Any:
    from rampipe.data.haystack import TokenBudget
    from rampipe.data.token_count import TokenCounter

    return TokenBudget(arguments.tokens, TokenCounter(arguments.model))


def heads_import(arguments: argparse.Namespace) -> int:
    """Put a published list of heads beside the ranking of a run of the same model."""
    from rampipe.heads.lists.run_lists import first_heads, import_list
    from rampipe.tables.storage import open_storage

    file = Path(arguments.file)
    found = import_list(
        open_storage(arguments.run),
        _file_bytes(file),
        format_id=arguments.format,
        name=arguments.name or file.stem,
        kv_heads=arguments.kv_heads,
    )
    shape, first = found.shape, first_heads(found, k_frac=arguments.k_frac)
    print(f"imported: {len(found.scores)} heads, of {shape.num_layers} layers of {shape.num_heads}")
    print(f"heads = {[str(head) for head in first]}")
    return 0


def heads_export(arguments: argparse.Namespace) -> int:
    """Write the overall ranking of a run as a list that other projects read."""
    from rampipe.heads.lists.run_lists import export_list
    from rampipe.tables.storage import open_storage

    data = export_list(open_storage(arguments.run), format_id=arguments.format, kv_heads=arguments.kv_heads)
    try:
        Path(arguments.file).write_bytes(data)
    except OSError as error:
        raise ConfigError(f"file {arguments.file}: cannot be written ({error.strerror}).") from None
    print(f"exported: {arguments.file}")
    return 0


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"file {path}: cannot be read ({error.strerror}). Pass an existing head list.") from None


COMMANDS = (verify, status, repair)


def _add(commands: Any, name: str, *, about: str | None, epilog: str) -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=about, description=about, epilog=epilog, formatter_class=shape)


def _add_data_commands(commands: Any) -> None:
    data = _add(commands, "data", about="Look at a sample dataset, or make a long-context one.", epilog=DATA_EXAMPLES)
    made = data.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    check = _add(made, "check", about=data_check.__doc__, epilog=DATA_EXAMPLES)
    haystack = _add(made, "haystack", about=data_haystack.__doc__, epilog=DATA_EXAMPLES)
    for command in (check, haystack):
        command.add_argument("path", metavar="PATH", help="folder or s3:// prefix, as data.path of a job")
        command.add_argument("--source", default="samples", metavar="NAME", help="dataset (default: native shards)")
        command.add_argument("--split", default=None, metavar="NAME", help="only this split, as data.split of a job")
        command.add_argument("--limit", type=_count, default=None, metavar="N", help="only the first N samples")
    check.add_argument("--draw", type=int, default=4, metavar="N", help="images to draw (default: 4; 0 for none)")
    check.add_argument("--out", default="evidence-pictures", metavar="DIR", help="folder of the drawn PNGs")
    check.set_defaults(call=data_check)
    haystack.add_argument("out", metavar="OUT", help="empty folder for the shards haystack-*.parquet")
    size = haystack.add_mutually_exclusive_group(required=True)
    size.add_argument("--distractors", type=_count, metavar="K", help="other images beside the sample's own")
    size.add_argument("--tokens", type=_count, metavar="N", help="fill prompts up to N tokens of --model")
    haystack.add_argument("--model", default=None, metavar="PATH", help="checkpoint that counts tokens, on the CPU")
    haystack.add_argument(
        "--depths", type=_depths, default=None, metavar="D,D", help="0 first, 1 last (default: 0.5); a sample each"
    )
    haystack.add_argument(
        "--packed", action="store_true", help="ask about every image of a context, which is then read only once"
    )
    haystack.add_argument("--seed", type=int, default=0, metavar="S", help="decides distractors and their order")
    haystack.set_defaults(call=data_haystack)


def _add_heads_commands(commands: Any) -> None:
    heads = _add(commands, "heads", about="Exchange lists of heads with other projects.", epilog=HEADS_EXAMPLES)
    made = heads.add_subparsers(dest="heads_command", metavar="COMMAND", required=True)
    read = _add(made, "import", about=heads_import.__doc__, epilog=HEADS_EXAMPLES)
    write = _add(made, "export", about=heads_export.__doc__, epilog=HEADS_EXAMPLES)
    for command, call, what in ((read, heads_import, "the list"), (write, heads_export, "file to write")):
        command.add_argument("run", metavar="RUN", help="folder or s3:// prefix of a ranked run")
        command.add_argument("file", metavar="FILE", help=what)
        command.add_argument("--format", required=True, metavar="NAME", help="head_score, duo_attention, qrhead, "
                             "names or plain (docs/peers.md)")  # fmt: skip
        command.add_argument("--kv-heads", type=_count, default=None, metavar="N", help="per layer, of the model")
        command.set_defaults(call=call)
    read.add_argument("--name", default=None, help="what the report calls it (default: the file's name)")
    read.add_argument("--k-frac", type=float, default=0.05, metavar="F", help="share of heads to print (0.05)")


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: not 1 or more")
    return int(text)


def _depths(text: str) -> tuple[float, ...]:
    return tuple(float(depth) for depth in text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and call; our errors become one line and their exit code."""
    parser = argparse.ArgumentParser(
        prog="rampipe", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"rampipe {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        made = _add(commands, command.__name__.replace("_", "-"), about=command.__doc__, epilog=EXAMPLES)
        made.add_argument("directory", metavar="DIR", help="run folder or s3:// prefix")
        made.set_defaults(call=lambda arguments, command=command: command(arguments.directory))
    _add_data_commands(commands)
    _add_heads_commands(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.call(arguments)
    except RampipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
