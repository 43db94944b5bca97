"""BentoML: the same SavedModel behind its own HTTP server, one worker, no batching (as ours runs in the bench).

Usage: bento.py SAVED_MODEL PORT. Answers POST /predict {"inputs": {name: tensor of strings}} with {"scores": [...]}.
"""

import os
import sys
from pathlib import Path

import bentoml


@bentoml.service(workers=1)
class Ranker:
    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf
        self.model = tf.saved_model.load(os.environ["SAVED_MODEL"])
        self.score = self.model.signatures["serving_default"]

    @bentoml.api
    def predict(self, inputs: dict[str, list[list[str]]]) -> dict[str, list[float]]:
        output = self.score(**{name: self.tf.constant(values) for name, values in inputs.items()})
        return {"scores": output["score"].numpy().tolist()}


if __name__ == "__main__":
    os.environ["SAVED_MODEL"] = sys.argv[1]
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.chdir(Path(__file__).resolve().parent)
    os.execv(
        sys.executable,
        [sys.executable, "-m", "bentoml", "serve", "bento:Ranker", "--host", "127.0.0.1", "--port", sys.argv[2]],
    )
