"""Vowpal Wabbit: online logistic regression with `--coin` on user, item and their cross; parsed and learned in its own C++ loop.

Usage: vowpal.py INPUT.tsv  (columns: y, user, item). Prints {name, version, samples_per_s, log_loss}.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import vowpalwabbit

source = Path(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    data = Path(folder) / "data.vw"
    rows = 0
    with source.open() as lines, data.open("w") as out:
        for line in lines:
            y, user, item = line.rstrip("\n").split("\t")
            out.write(f"{1 if y == '1' else -1} |u u{user} |i i{item}\n")
            rows += 1
    options = f"--data {data} --loss_function logistic --link logistic -b 20 -q ui --coin --quiet"
    started = time.perf_counter()
    workspace = vowpalwabbit.Workspace(options)
    workspace.run_parser()
    seconds = time.perf_counter() - started
    loss = workspace.get_sum_loss() / workspace.get_weighted_examples()
    workspace.finish()
print(
    json.dumps(
        {
            "name": "Vowpal Wabbit",
            "version": vowpalwabbit.__version__,
            "samples_per_s": rows / seconds,
            "log_loss": loss,
        }
    )
)
