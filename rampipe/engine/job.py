"""A job for a cluster: one command that holds its whole configuration, under a name that says which work it is.

The same work has the same name: stage, configuration, code, and the files of model and samples as they are seen here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rampipe.config import RunConfig
from rampipe.errors import ConfigError
from rampipe.tables.fingerprint import STATISTICS_VERSION, fingerprint

SHIPPED = ("jobs", "rampipe", "schemas")
"""Folders of the checkout that travel. Nothing else does: samples are read in place, and secrets stay at home."""
CODE_SUFFIXES = (".py", ".json", ".j2", ".css")
NAME_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Job:
    """name: `rampipe-<stage>-<12 hex digits>`. entrypoint: one shell command, to be run in a copy of `folder`.

    excludes: gitignore patterns of what of `folder` does not travel.
    """

    name: str
    entrypoint: str
    folder: Path
    excludes: tuple[str, ...]


def make_job(stage: str, config: RunConfig, *, runs: Sequence[str] = (), folder: Path) -> Job:
    """The job that runs `python -m jobs.<stage> RUNS...` with this configuration from a copy of the checkout `folder`.

    Raises ConfigError when `folder` is no checkout, or a path would mean another place there than here.
    """
    missing = [name for name in SHIPPED if not (folder / name).is_dir()]
    if missing:
        raise ConfigError(f"--submit in {folder}: no folder {missing[0]!r}. Start it in the checkout of rampipe.")
    _check_places(config, runs, folder)
    inputs = {
        "stage": stage,
        "runs": list(runs),
        "config": config.model_dump(mode="json"),
        "statistics_version": STATISTICS_VERSION,
        "code": _code_digest(folder),
        "model_files": _listing(folder / config.model.path),
        "data_files": _listing(Path(config.data.path)),
    }
    return Job(
        name=f"rampipe-{stage}-{fingerprint(inputs)[:NAME_DIGITS]}",
        entrypoint=shlex.join(["python", "-m", f"jobs.{stage}", *runs, *_flags(config)]),
        folder=folder,
        excludes=tuple(_excludes(folder)),
    )


def _check_places(config: RunConfig, runs: Sequence[str], folder: Path) -> None:
    """A job starts in a copy of the checkout that ends with it: what it reads and writes has to be elsewhere."""
    outputs = {f"RUN {run}": run for run in runs} or {"out": config.out}
    places = {"data.path": config.data.path, **outputs}
    for key, place in places.items():
        if "://" not in place and not Path(place).is_absolute():
            raise ConfigError(
                f"--submit: {key} {place!r} is relative, and a job starts in a folder of its own. "
                "Give an absolute path or s3://..., which every node sees."
            )
    model = Path(config.model.path)
    if not model.is_absolute() and (folder / model).is_dir() and model.parts[0] not in SHIPPED:
        raise ConfigError(
            f"--submit: model.path {config.model.path!r} is a folder that does not travel; only {list(SHIPPED)} do. "
            "Give an absolute path that every node sees, or a Hub id."
        )


def _flags(config: RunConfig) -> Iterator[str]:
    """`--set` for everything that is not the default: the job depends on no file."""
    for key, value in _leaves(config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)):
        yield "--set"
        yield f"{key}={json.dumps(value, ensure_ascii=False)}"  # TOML reads JSON's strings, numbers and lists


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _code_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for name in SHIPPED for path in (folder / name).rglob("*")):
        if path.suffix in CODE_SUFFIXES and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _listing(place: Path) -> list[tuple[str, int, int]] | None:
    """Name, bytes and time of change of every file; None for what is not a folder here, as a bucket or a Hub id."""
    if not place.is_dir():
        return None
    files = sorted(path for path in place.rglob("*") if path.is_file())
    states = [(path.relative_to(place).as_posix(), path.stat()) for path in files]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def _excludes(folder: Path) -> Iterator[str]:
    for name in sorted(path.name for path in folder.iterdir()):
        if name not in SHIPPED:
            yield "/" + re.sub(r"([\\*?\[\] ])", r"\\\1", name)
