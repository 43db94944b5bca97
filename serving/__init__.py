"""What answers readers: the gateway, the model server, and the follower that keeps a model server fresh.

Nothing here imports streams or trainer: what they know reaches this part through Kafka, Redis or the model directory.
TensorFlow is imported by `serving.model_server` alone. Read in this order:

1. `protocol`      the small part of TensorFlow Serving's protocol that gateway and follower speak
2. `gateway`       recommend and outcomes: features, scoring, ranking policies, the write-ahead spool
3. `client`        how a recommendation service calls the gateway
4. `follower`      deltas and versions into a model server, in order
5. `model_server`  a model server that TensorFlow Serving's own clients cannot tell from the official one
"""
