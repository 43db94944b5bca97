"""The follower: beside each model server, it brings versions and deltas from the loop into that server, in order.

It speaks TensorFlow Serving's gRPC API and nothing more, so that it does not matter which server stands beside it. It alone
owns that server's model configuration. What it needs to know after a crash it asks the server: a follower has no state of
its own but the verified copies of versions on disk. TensorFlow never belongs here, nor does what a delta contains.

Read in this order:

1. `settings`  what can be set
2. `plan`      what to do next, given what shall be and what is: pure
3. `records`   the control and models topics as they stand now
4. `fetch`     a version from the store to the server's folder, verified
5. `log`       the deltas topic: whole deltas in order
6. `order`     which delta fits on which model: pure
7. `server`    the model server's gRPC API, with deadlines
8. `apply`     deltas into one loaded version
9. `feeders`   one for each loaded version
10. `downloads` versions that are coming to this disk
11. `verify`    probe requests before a version is shown to readers
12. `given`     what the server has been configured to
13. `swap`      the label moves
14. `report`    the replicas topic, the status and the metrics
15. `follow`    the loop that puts them together
16. `main`      the process
17. `proxy`     a gRPC proxy that fails on purpose, for tests and drills
"""
