"""The model server against TensorFlow Serving's behaviour, case by case; ids in test ids are those of docs/model-server.md."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
