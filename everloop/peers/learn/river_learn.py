"""River: logistic regression (FTRL) or a factorization machine on user, item and, for the former, their cross; predict, then learn.

Usage: river_learn.py INPUT.tsv logistic|fm ROWS. Prints {name, version, samples_per_s, log_loss}.
"""

import json
import math
import sys
import time
from itertools import islice

import river
from river import facto, linear_model, optim

source, kind, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(source) as lines:
    rows = [line.rstrip("\n").split("\t") for line in islice(lines, limit)]
if kind == "logistic":
    model = linear_model.LogisticRegression(optim.FTRLProximal(alpha=0.1, l1=0.0, l2=1.0), intercept_lr=0.01)
    inputs = [({f"u{u}": 1, f"i{i}": 1, f"c{u},{i}": 1}, y == "1") for y, u, i in rows]
else:
    model = facto.FMClassifier(n_factors=8, seed=1)
    inputs = [({f"u{u}": 1, f"i{i}": 1}, y == "1") for y, u, i in rows]
loss = 0.0
started = time.perf_counter()
for x, y in inputs:
    p = min(max(model.predict_proba_one(x).get(True, 0.5), 1e-9), 1 - 1e-9)
    loss -= math.log(p if y else 1 - p)
    model.learn_one(x, y)
seconds = time.perf_counter() - started
print(
    json.dumps(
        {
            "name": f"River {'logistic regression' if kind == 'logistic' else 'FM'}",
            "version": river.__version__,
            "samples_per_s": len(rows) / seconds,
            "log_loss": loss / len(rows),
        }
    )
)
