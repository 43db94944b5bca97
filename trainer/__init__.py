"""The trainer: learns from labelled samples all day, and lets only what passed the gate leave.

Here belong the model (one graph for training and serving), its optimizers and slots, the steps and what they are checked by, and
what leaves: deltas and exported versions. What joins events into samples is in `streams`, what serves versions in `serving`.

The learning core, in the order to read it:

1. `settings`, `batch`          what is learned, how, and from what
2. `fields`                     the plan: fields, tables, dense weights
3. `model`, `losses`, `optimize`   from raw strings to scores, from labels to gradients, from gradients to weights
4. `slots`, `sightings`, `rows`, `noted`, `priors`   which value owns which row and when; which rows a step reads and writes
5. `graph`, `engine`, `pages`, `learner`    one step
6. `delta`, `sync`              what changed, and the signatures that take it in
7. `snapshot`, `warmup`, `export`  the whole state, and the SavedModel

Round it stands the loop (`main`): consume, steps, validate, gate, checkpoint, depot, publish.
"""

import os

# TensorFlow leaves oneDNN's products off on processors without AVX-512; the dense part is a third faster with them. It reads
# this once, at import.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
