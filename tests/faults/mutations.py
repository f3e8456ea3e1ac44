"""Takes away one guard against loss at a time: the test that is named for it must fail. `make mutate`.

Everything happens in a copy of the checkout. Exit code 1 when a test passes without its guard.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.document import write_section

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("rampipe", "jobs", "schemas", "tests", "docs", "pyproject.toml", "README.md")


class Mutation(NamedTuple):
    """A text that is there once, and what stands there without the guard."""

    guard: str
    path: str
    old: str
    new: str
    test: str


MUTATIONS = (
    Mutation(
        "the first writer of a file wins",
        "rampipe/tables/local.py",
        "os.link(temporary, target)",
        "temporary.rename(target)",
        "tests/unit/tables/test_storage.py::test_the_first_writer_wins_and_nothing_is_left_over",
    ),
    Mutation(
        "a path never leaves the run",
        "rampipe/tables/storage.py",
        'part in ("", ".", "..") for part in parts',
        'part == "" for part in parts',
        "tests/unit/tables/test_storage.py::test_paths_that_leave_the_root_are_refused",
    ),
    Mutation(
        "a commit holds all planned samples",
        "rampipe/tables/commit.py",
        "    _check_balance(unit, results, failures, kind)\n",
        "",
        "tests/unit/tables/test_commit.py::test_results_that_are_not_the_units_samples_are_refused",
    ),
    Mutation(
        "only intact files of this run are adopted",
        "rampipe/tables/commit.py",
        "if {**metadata, **expected} != metadata or ",
        "if ",
        "tests/unit/tables/test_commit.py::test_a_leftover_of_another_run_is_not_adopted",
    ),
    Mutation(
        "the published errors decide which samples count",
        "rampipe/tables/commit.py",
        "    kept = _follow(unit_files, results, errors.table)\n",
        "    kept = list(results)\n",
        "tests/unit/tables/test_commit.py::test_the_published_errors_decide_which_samples_are_measured",
    ),
    Mutation(
        "a committed file of another size is not taken for done",
        "rampipe/tables/commit.py",
        "if size != file.bytes:",
        "if size is None:",
        "tests/unit/tables/test_commit.py::test_a_commit_of_another_fingerprint_or_size_is_refused",
    ),
    Mutation(
        "an unfinished run is no success",
        "rampipe/tables/finish.py",
        "if not account.complete:",
        "if False:",
        "tests/unit/tables/test_commit.py::test_a_death_at_any_step_loses_and_doubles_nothing[in_tmp]",
    ),
    Mutation(
        "another configuration does not resume a run",
        "rampipe/tables/run.py",
        "    refuse_other_inputs(run, spec.all_inputs)\n",
        "",
        "tests/unit/tables/test_run.py::test_a_resume_with_other_settings_is_refused_and_names_them",
    ),
    Mutation(
        "page checksums are verified",
        "rampipe/tables/parquet.py",
        "page_checksum_verification=True",
        "page_checksum_verification=False",
        "tests/unit/tables/test_parquet.py::test_a_flipped_bit_is_found_by_the_page_checksum_and_by_nothing_else",
    ),
    Mutation(
        "one sample is not in two units",
        "rampipe/tables/verify.py",
        "if owners.setdefault(sample_id, record.unit_id) != record.unit_id:",
        "if False:",
        "tests/unit/tables/test_verify.py::test_a_sample_in_two_units_is_found",
    ),
    Mutation(
        "a changed byte is found by its hash",
        "rampipe/tables/verify.py",
        "if hashlib.sha256(data).hexdigest() != file.sha256:",
        "if False:",
        "tests/unit/tables/test_verify.py::test_a_file_that_was_replaced_by_a_valid_one_is_found",
    ),
    Mutation(
        "what waited behind a dead actor's task is queued again",
        "rampipe/engine/scheduler.py",
        "self._put_back(list(member.tasks))",
        "self._put_back(list(member.tasks)[:1])",
        "tests/unit/engine/test_scheduler_simulation.py::test_all_seeds_keep_the_promises",
    ),
    Mutation(
        "a hanging actor is given up",
        "rampipe/engine/scheduler.py",
        "now_s - member.running_since_s > deadline_s:",
        "now_s - member.running_since_s > 1e9:",
        "tests/unit/engine/test_scheduler_simulation.py::test_all_seeds_keep_the_promises",
    ),
    Mutation(
        "a unit is done once",
        "rampipe/engine/ledger.py",
        "        if state.done:\n            return False\n",
        "",
        "tests/unit/engine/test_scheduler_simulation.py::test_all_seeds_keep_the_promises",
    ),
    Mutation(
        "deaths at once are taken in at once",
        "rampipe/engine/scheduler.py",
        "            actions += self._take_in(event, now_s)\n",
        "            actions += self._take_in(event, now_s) + self._decide(now_s)\n",
        "tests/unit/engine/test_scheduler.py::test_actors_that_die_at_once_are_not_given_each_others_work",
    ),
    Mutation(
        "a shard that was replaced is not measured",
        "rampipe/engine/worker.py",
        "        if seen != planned:\n",
        "        if False:\n",
        "tests/unit/engine/test_worker.py::test_a_shard_that_was_replaced_since_the_plan_is_refused_by_name",
    ),
    Mutation(
        "a sample id that occurs twice is refused",
        "rampipe/data/footers.py",
        "if key in seen:",
        "if False:",
        "tests/unit/data/test_native.py::test_duplicate_ids_name_both_places",
    ),
    Mutation(
        "an image is judged before its pixels",
        "rampipe/models/images.py",
        "                _check_size(image.size, name=name, max_pixels=max_pixels)\n",
        "",
        "tests/unit/models/test_images.py::test_size_is_judged_before_pixels",
    ),
    Mutation(
        "NaN is never averaged",
        "rampipe/tables/rows.py",
        "np.isfinite(values).all() for values in checked",
        "True for values in checked",
        "tests/unit/tables/test_rows.py::test_statistics_that_are_not_finite_are_refused",
    ),
    Mutation(
        "secrets are redacted",
        "rampipe/errors.py",
        "super().__init__(redact(message))",
        "super().__init__(message)",
        "tests/unit/test_errors.py::test_a_secret_is_left_out_of_errors_causes_and_tables",
    ),
)


def survives(folder: Path, mutation: Mutation) -> str:
    """`found` when the test fails without the guard, else what is wrong."""
    path = folder / mutation.path
    whole = path.read_text(encoding="utf-8")
    if whole.count(mutation.old) != 1:
        return f"GONE: its text is there {whole.count(mutation.old)} times"
    path.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        code = run_test(folder, mutation.test)
    finally:
        path.write_text(whole, encoding="utf-8")
    if code == 1:
        return "found"
    return "SURVIVED" if code == 0 else f"BROKEN: pytest exits with {code}"


def run_test(folder: Path, *tests: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False).returncode


def main(argv: Sequence[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not argv or any(word in mutation.guard for word in argv)]
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        folder = Path(name)
        for part in COPIED:
            source = ROOT / part
            ignore = shutil.ignore_patterns("__pycache__")
            _ = (
                shutil.copytree(source, folder / part, ignore=ignore)
                if source.is_dir()
                else shutil.copy(source, folder)
            )
        if run_test(folder, *sorted({mutation.test for mutation in chosen})) != 0:
            print("the tests fail with their guards in place: nothing can be learnt")
            return 1
        lines = ["| guard that is taken away | in | its test | result |", "|---|---|---|---|"]
        for mutation in chosen:
            result = survives(folder, mutation)
            print(f"{result}: {mutation.guard}", flush=True)
            test = mutation.test.removeprefix("tests/")
            lines.append(f"| {mutation.guard} | `{mutation.path}` | `{test}` | {result} |")
    if not argv:
        write_section(ROOT / "docs/reliability.md", "mutations", lines)
    return 0 if all(line.endswith("| found |") for line in lines[2:]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
