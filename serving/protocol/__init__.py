"""The part of TensorFlow Serving's gRPC protocol that gateway and follower speak, and the gateway's own twin of its HTTP API.

Nothing here imports TensorFlow: its own classes of these messages (`tensorflow_serving.apis`) would import all of it. The
messages have the same field numbers and the services the same method paths, in a protobuf package of their own, so that
both can live in one process. `python -m serving.protocol.generate` writes the `_pb2` files anew. Read in this order:

1. `serving.proto`  the messages
2. `tensors`        Python values to tensors and back
3. `stubs`          the services, on a `grpc` or a `grpc.aio` channel alike
4. `requests`       the requests that gateway and follower make, and what they read from the answers
5. `fake`           a model server in this process whose model is a Python function, for tests of what is around a model
"""
