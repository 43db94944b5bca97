"""The contract between the parts of everloop: what passes through Kafka and the model directory, and in what words.

Here belong the event types, their codec, the topics, the feature specification, the version manifest, the error tree and
the client with which an event producer in another process sends outcomes. Nothing here imports another part of the
project, TensorFlow or Faust, so that an event producer installs little and starts at once.

Read in this order:

1. `errors`     the one error tree
2. `clock`      microseconds and where they come from
3. `events`     prediction, outcome, tick, sample, progress: what flows round the loop
4. `codec`      events to bytes and back, with errors that name the field
5. `features`   the feature specification: from an event to the model's columns, the same at serving and in training
6. `deltas`     the header of a delta
7. `versions`   manifests and the records of the models, control and replicas topics
8. `settings`   how to reach Kafka and Redis
9. `topics`     names, partitions and retention; creating them
10. `produce`   the producer client
"""
