"""How many prompt tokens a second a whole capture reads here, added to the table that `--plan` reads.

python benchmarks/rates.py --model rampipe/testbed/weights/needle-2.5m --data samples/ --device "2 CPU cores, shared"

Runs the samples as a job would, statistics and null question included, on one replica in this process; the first unit
is not counted. A rate is of this model, device and length of prompts: the table is never used for another model.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from rampipe.config import load_config
from rampipe.data import open_source
from rampipe.engine.plan import make_spec
from rampipe.engine.rates import Rate, Rates, read_rates
from rampipe.engine.worker import Worker
from rampipe.tables.commit import read_commits
from rampipe.tables.read import open_run
from rampipe.tables.run import create_run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="native sample shards")
    parser.add_argument("--device", help="name in the table (default: the GPU's own)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--unit-samples", type=int, default=32)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("rates.json"))
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: str) -> Rate:
    gpus = int(torch.cuda.is_available())
    overrides = [f"model.path={arguments.model}", f"data.path={arguments.data}", f"out={folder}"]
    overrides += [f"model.dtype={arguments.dtype}", f"cluster.gpus_per_replica={gpus}"]
    config = load_config(None, [*overrides, f"capture.unit_samples={arguments.unit_samples}"])
    run = create_run(folder, make_spec(config, open_source(config.data)))
    if len(run.units) < 2:
        sys.exit("fewer than two units: the first is not counted. Pass more samples, or --unit-samples.")
    worker = Worker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
    for unit in run.units:
        worker.run_unit(unit, attempt=1)
    seconds = sum(commit.seconds for commit in read_commits(run.storage).values() if commit.unit_id)
    lengths = open_run(run.storage.uri).samples.collect().get_column("num_tokens").to_list()
    counted = lengths[run.units[0].num_samples :]
    return Rate(
        device=arguments.device or torch.cuda.get_device_name(),
        model=arguments.model,
        dtype=arguments.dtype,
        prompt_tokens=round(statistics.median(counted)),
        tokens_per_s=round(sum(counted) / seconds, 1),
        num_samples=len(counted),
        command=shlex.join(["python", "benchmarks/rates.py", *sys.argv[1:]]),
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        rate = measure(arguments, folder)
    table = read_rates(arguments.write)
    others = [one for one in table.measured if (one.device, one.model) != (rate.device, rate.model)]
    written = Rates(version=1, measured=(*others, rate), peaks=table.peaks)
    arguments.write.write_text(json.dumps(written.model_dump(), indent=2) + "\n", encoding="utf-8")
    print(rate.model_dump_json(indent=2))


if __name__ == "__main__":
    main()
