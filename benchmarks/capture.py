"""What reading the heads costs, beside a plain prefill and what else one could do, in turns in one process.

python benchmarks/capture.py --tokens 2048 4096 8192 --threads 2

Text model of Qwen2.5-0.5B's shape with random weights. `whole`: median over repetitions of an arm's time over that of
the plain prefill next to it. `metered`: 1 + the time spent on statistics over that of the rest of the same forward,
which a busy machine disturbs less; with calibrated questions, the whole over its own pass over their context, which is
shorter than the prompt. `memory`: largest resident size above the loaded model over that of the plain prefill, each arm
in a process of its own. `all statistics`: as a run reads them, for prompts of up to 4,096 tokens after the forward;
`within the forward`: layer by layer, whatever the length. `calibrated` reads the null question too, from the same
context; `ended early` stops with the last attention, as a run does. Rivals, which give evidence mass alone:
`output_attentions` holds every attention matrix; `per-layer hook` reduces one after the other; `eager suffix` reads the
context plainly and the question eagerly; `cached queries` keeps the question's queries and computes whole softmax rows
afterwards.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import capture_setup
import torch
import transformers
from capture_arms import MASSES, Bench, synchronize
from capture_setup import CLOCKS, DTYPES, build, clock

CAPTURES = (
    "all statistics",
    "within the forward",
    MASSES,
    "calibrated",
    "calibrated, ended early",
    "calibrated, unshared",
)
RIVALS = ("eager suffix", "cached queries", "per-layer hook", "output_attentions")
MATRICES = ("per-layer hook", "output_attentions")
"""Arms that hold whole attention matrices: gigabytes, and many times a prefill."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--rows", type=int, default=64, help="tokens of a question: rows that are read")
    parser.add_argument("--arms", nargs="*", default=[*CAPTURES, *RIVALS], choices=[*CAPTURES, *RIVALS])
    parser.add_argument("--matrix-tokens", type=int, default=4096, help="longest prompt of arms that hold matrices")
    parser.add_argument("--matrix-repeats", type=int, default=1, help="repetitions of these arms")
    parser.add_argument("--questions", type=int, nargs="*", default=[1, 2, 4, 8, 16], help="on one context")
    parser.add_argument("--question-rows", type=int, nargs="*", default=[32, 64], help="tokens of each of them")
    parser.add_argument("--questions-tokens", type=int, nargs="*", default=[4096], help="lengths with questions")
    parser.add_argument("--memory", nargs="*", default=["all statistics", MASSES, "calibrated"])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="float32 where bfloat16 is emulated")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(bench: Bench, arguments: argparse.Namespace) -> None:
    """All arms in a drawn order, again and again; a plain prefill stands before each."""
    names = [name for name in arguments.arms if name not in MATRICES or bench.num_tokens <= arguments.matrix_tokens]
    if bench.num_tokens in arguments.questions_tokens:
        names += [
            f"{number} questions of {rows}{kind}"
            for rows in arguments.question_rows
            for kind in ("", f", {MASSES}")
            for number in arguments.questions
        ]
    arms = {name: bench.arm(name) for name in ["plain", *names]}
    whole: dict[str, list[float]] = {name: [] for name in names}
    metered: dict[str, list[float]] = {name: [] for name in names}
    seconds: list[float] = []
    for repeat in range(arguments.repeats + 1):
        order = [name for name in names if name not in MATRICES or 0 < repeat <= arguments.matrix_repeats]
        random.Random(repeat).shuffle(order)
        for name in order:
            plain_s, _ = timed(arms["plain"], bench.replica.device)
            whole_s, spent_s = timed(arms[name], bench.replica.device)
            if repeat == 0:
                continue
            seconds.append(plain_s)
            whole[name].append(whole_s / plain_s)
            if spent_s is not None:
                metered[name].append(whole_s / (whole_s - spent_s))
    print(f"\n{bench.num_tokens} tokens, {bench.num_rows} rows, plain prefill {statistics.median(seconds):.3f} s\n")
    print("| arm | metered | whole | each | memory |\n|---|---|---|---|---|")
    memory = {name: peak_mib(name, bench, arguments) for name in ["plain", *arguments.memory] if arguments.memory}
    for name in names:
        each = " ".join(f"{ratio:.2f}" for ratio in whole[name])
        spent = f"{statistics.median(metered[name]):.3f} x" if metered[name] else ""
        ratio = f"{memory[name] / memory['plain']:.2f} x ({memory[name]:.0f} MiB)" if name in memory else ""
        print(f"| {name} | {spent} | {statistics.median(whole[name]):.2f} x | {each} | {ratio} |", flush=True)


def timed(arm, device: torch.device) -> tuple[float, float | None]:
    start = clock()
    spent_s = arm()
    synchronize(device)
    return clock() - start, spent_s


def peak_mib(name: str, bench: Bench, arguments: argparse.Namespace) -> float:
    """Of an arm in a process of its own, whose freed blocks go back at once: else their remains are a quarter of it."""
    options = {"tokens": bench.num_tokens, "rows": bench.num_rows, "layers": arguments.layers}
    options |= {"threads": arguments.threads, "device": arguments.device, "dtype": arguments.dtype, "memory-of": name}
    command = [sys.executable, __file__, *(text for key, value in options.items() for text in (f"--{key}", str(value)))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def print_peak(bench: Bench, name: str) -> None:
    """Largest resident size (on a GPU: allocated) of the second run above what stood before; the first one warms up."""
    Bench(bench.replica, max(2 * bench.num_rows, 256), bench.num_rows).arm(name)()
    run = bench.arm(name)
    if bench.replica.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kib("VmRSS")
    run()
    print((resident_kib("VmHWM") - before) / 2**10)


def resident_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Measure what the command line names."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    capture_setup.clock_name = arguments.clock
    replica = build(arguments.layers, arguments.device, DTYPES[arguments.dtype])
    if arguments.memory_of:
        print_peak(Bench(replica, arguments.tokens[0], arguments.rows), arguments.memory_of)
        return
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {arguments.threads} threads, "
        f"{arguments.dtype}"
    )
    for num_tokens in arguments.tokens:
        compare(Bench(replica, num_tokens, arguments.rows), arguments)


if __name__ == "__main__":
    main()
