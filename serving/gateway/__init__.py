"""The gateway: answers `POST /v1/recommend`, `POST /v1/slates` and `POST /v1/outcomes`, and always answers.

It holds nothing that is not also elsewhere, save the spool: what it answered and what it accepted, until Kafka has it. What
a request needs of another part (features, scores) has a time limit, a breaker and something that stands in. TensorFlow is
never imported. Read in this order:

1. `settings`   what can be configured
2. `messages`   requests and answers; `problems`: errors as RFC 9457 has them
3. `access`     API keys and their scopes; `bucket`: the rate limit
4. `breaker`    the circuit breaker, a pure state machine
5. `store`      real-time features and the pool of candidates from Redis, in one round trip; `resp`: its connection
6. `columns`    from a request and state to the model's inputs and the event's features
7. `scorer`     gRPC Predict, what waits goes together
8. `policies`   from scores to a slate and its propensities
9. `segments`   the write-ahead log's files; `spool`: append, read, acknowledge; `disk`: fsync; `sender`: from the spool to Kafka
10. `recommend` a request's way through all of that; `outcomes`: the events' way; `observe`: that of slates that something else chose
11. `watch`     control, versions and deltas from Kafka; `freshness`: from an outcome to the answer that knows it
12. `door`      how long a slow client may stay; `app`: the routes; `openapi`, `metrics`, `rpc` (the gRPC twin)
13. `gateway`   the parts put together; `main`: the process
14. `bench`     its figures; `load`: the load generator
"""
