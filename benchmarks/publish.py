"""Run a benchmark and put what it printed into docs/performance.md, with the command, machine, versions and date.

python benchmarks/publish.py capture --tokens 2048 4096 8192
python benchmarks/publish.py reduce --rows 100000000

What follows the name goes to the benchmark. Its place is between `<!-- benchmark: NAME -->` and the next
`<!-- end -->`. Nothing is written when the benchmark fails.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"
PACKAGES = ("torch", "transformers", "ray", "polars", "pyarrow")


def machine() -> str:
    """Processor, cores, memory and accelerators, in one line."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    processor = f"{found[1] if found else platform.machine()} ({bfloat16_units()})"
    return f"{processor}, {cores} cores, {memory_gib:.0f} GiB, {accelerators()}"


def bfloat16_units() -> str:
    """Whether the processor multiplies bfloat16 itself: else that is many times slower than float32."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    found = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    return " ".join(found) or "no bfloat16 units"


def accelerators() -> str:
    """Names of the CUDA devices that torch sees."""
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return " and ".join(names) if names else "no GPU"


def versions() -> str:
    """Of the packages that matter, where they are installed."""
    found: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def place(page: str, name: str, block: str) -> str:
    """The page with the block between the marks of the benchmark. Raises SystemExit where there are none."""
    marks = re.compile(rf"(<!-- benchmark: {re.escape(name)} -->\n).*?(<!-- end -->)", flags=re.DOTALL)
    if not marks.search(page):
        raise SystemExit(f"docs/performance.md has no place '<!-- benchmark: {name} -->': add it, with '<!-- end -->'.")
    return marks.sub(lambda found: found[1] + block + found[2], page, count=1)


def shown(command: list[str]) -> str:
    """The command without the folder in which it kept its files, which is another one on every machine."""
    words = iter(command)
    return shlex.join(word for word in words if word != "--folder" or not next(words, ""))


def main() -> None:
    """Run and publish what the command line names."""
    if len(sys.argv) < 2 or not (ROOT / f"benchmarks/{sys.argv[1]}.py").is_file():
        raise SystemExit(__doc__)
    name, *arguments = sys.argv[1:]
    place(PAGE.read_text(encoding="utf-8"), name, "")
    command = ["python", f"benchmarks/{name}.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
    ran = subprocess.run(
        [sys.executable, *command[1:]], check=False, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
    )
    print(ran.stdout)
    if ran.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with exit code {ran.returncode}: nothing was written.")
    said = f"`{shown(command)}`, {datetime.datetime.now(datetime.UTC).date()}. {machine()}. {versions()}."
    block = f"{said}\n\n```\n{ran.stdout.strip()}\n```\n"
    PAGE.write_text(place(PAGE.read_text(encoding="utf-8"), name, block), encoding="utf-8")


if __name__ == "__main__":
    main()
