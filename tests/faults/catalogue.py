"""The faults that a run must survive and the bad inputs that it must answer, by the ids that tests are marked with."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One line of the table of docs/reliability.md."""

    what: str
    required: str


SAME_ROWS = "rows of an undisturbed run, committed files untouched"

FAULTS: dict[str, Case] = {
    "F1": Case("six actors die by SIGKILL at random moments", SAME_ROWS),
    "F2": Case("an actor dies at each step of the commit protocol", SAME_ROWS),
    "F3": Case("a node vanishes under load, another joins", SAME_ROWS),
    "F4": Case("an actor stops (SIGSTOP) and answers late", "overtaken by a copy; " + SAME_ROWS),
    "F5": Case("the driver dies three times; once its actors go on for a while", SAME_ROWS),
    "F6": Case("`ray job stop` in the middle, submitted again", SAME_ROWS),
    "F7": Case("the head dies, the job goes on with a new cluster", SAME_ROWS),
    "F8": Case("two drivers on one run at once", "both end well; " + SAME_ROWS),
    "F9": Case("several attempts publish one unit at once", "one wins whole, all return its record"),
    "F10": Case("a node is drained and taken away at its deadline", "no blame on its units; " + SAME_ROWS),
    "F11": Case("one sample exhausts the memory of the machine", "one error row, bounded attempts"),
    "F12": Case("the device runs out of memory", "the batch is halved; a sample too large alone is an error row"),
    "F13": Case("one sample ends every process that touches it", "exactly one error row"),
    "F14": Case("a share of Ray's calls to actors fails", SAME_ROWS),
    "F15": Case("the disk is full, then has space again", "named; the same command goes on"),
    "F16": Case("the output becomes read-only in the middle", "non-zero exit; committed data intact"),
    "F17": Case("a committed file is truncated, emptied, zeroed or has a flipped bit", "found; its unit is redone"),
    "F18": Case("resume with another number of actors; with another dtype", "reused; refused with the differing key"),
    "F19": Case("a shard is replaced during a run; between runs", "refused by name; another run"),
    "F20": Case("1, then 4, then 1 actors; one shard a hundred times slower", SAME_ROWS),
}

BAD_INPUTS: dict[str, Case] = {
    "B1": Case("corrupt image", "error row `image_corrupt`, later rows measured"),
    "B2": Case("image of zero bytes", "error row `image_empty`"),
    "B3": Case("truncated PNG", "error row `image_corrupt`"),
    "B4": Case("image of 1x1 or 300x3 px", "error row `image_too_small`"),
    "B5": Case("pixel bomb", "error row `image_too_large`, before a pixel is decoded"),
    "B6": Case("archive and compressed-text bombs", "error row; a shard that unpacks beyond reason is refused by name"),
    "B7": Case("truncated shard", "refused by name when planning"),
    "B8": Case("missing column", "refused by name when planning"),
    "B9": Case("column of another type", "refused by name when planning, never cast"),
    "B10": Case("a sample id that occurs twice", "refused with both places when planning"),
    "B11": Case("evidence box outside its image, or inverted", "error row, or clipped and flagged"),
    "B12": Case("no evidence", "nulls and a flag, left out of the ranking"),
    "B13": Case("NaN or infinity in the attention", "error row `nonfinite`, never averaged"),
    "B14": Case("context longer than the model's", "error row, no silent truncation"),
    "B15": Case("text that is not UTF-8", "error row `not_utf8` with the id in hex"),
    "B16": Case("output that cannot be written", "refused with the path, before any device is used"),
    "B17": Case("wrong model path", "refused with the path, before any device is used"),
    "B18": Case("weights that do not match the configuration", "refused with the keys"),
    "B19": Case("truncated safetensors", "refused with the file"),
    "B20": Case("tokenizer of another model", "refused with the token or the sizes"),
    "B21": Case("pickled weights", "never loaded, code not run"),
    "B22": Case("a checkpoint that brings code", "code not run, nobody is asked"),
    "B23": Case("sample id `../../x`", "measured; nothing is written outside the run"),
    "B24": Case("secrets in paths, causes and messages", "redacted in logs, tables and run.json"),
    "B25": Case("a dashboard that others can reach", "refused without token authentication"),
}

CASES = {**FAULTS, **BAD_INPUTS}
