"""LitServe: the same SavedModel behind its own HTTP server, one worker, no batching (as ours runs in the bench).

Usage: lit.py SAVED_MODEL PORT. Answers POST /predict {"inputs": {name: tensor of strings}} with {"scores": [...]}.
"""

import sys

import litserve
import tensorflow as tf


class Ranker(litserve.LitAPI):
    def setup(self, device):
        self.model = tf.saved_model.load(sys.argv[1])
        self.score = self.model.signatures["serving_default"]

    def decode_request(self, request):
        return {name: tf.constant(values) for name, values in request["inputs"].items()}

    def predict(self, inputs):
        return self.score(**inputs)

    def encode_response(self, output):
        return {"scores": output["score"].numpy().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Ranker(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
