"""JSON and JSON lines as datasets publish them, with errors that name the place and say where to get the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rampipe.errors import DataError

Record = dict[str, Any]


def read_json(path: Path, *, where: str) -> Any:
    """The value of one JSON file. Raises DataError when it is missing, not UTF-8, or not JSON."""
    text = _read_text(path, where=where)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON ({error.msg} at line {error.lineno}). {where}") from None


def read_records(path: Path, *, keys: Sequence[str], where: str) -> list[Record]:
    """The objects of one JSON file that holds a list of them. Raises DataError as `read_json`, and on a missing key."""
    values = read_json(path, where=where)
    if not isinstance(values, list):
        raise DataError(f"{path}: holds a {type(values).__name__}, not a list. {where}")
    return [_checked(value, keys, f"{path} entry {index}", where) for index, value in enumerate(values)]


def read_lines(path: Path, *, keys: Sequence[str], where: str) -> Iterator[tuple[int, Record]]:
    """Line number, from 1, and object of each line that is not empty. Raises DataError naming the line."""
    for number, text in enumerate(_read_text(path, where=where).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} line {number}: not JSON ({error.msg}). {where}") from None
        yield number, _checked(value, keys, f"{path} line {number}", where)


def _read_text(path: Path, *, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path.parent}: no {path.name} there. {where}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}). {where}") from None


def _checked(value: Any, keys: Sequence[str], place: str, where: str) -> Record:
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing or not isinstance(value, dict):
        raise DataError(f"{place}: no key {missing}. {where}")
    return value
