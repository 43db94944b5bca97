"""The streams part: the join of predictions and outcomes into samples, and the real-time features.

Here belong the label rule, the join and its ledger, the state that must outlive a kill, the Faust app that hosts the services, the dead
letters. What learns from samples never does; nothing here imports the trainer or serving. Faust is imported by `worker` alone.

Read in this order:

1.  `settings`     what the join waits for and what it may hold
2.  `labels`       the rule: from what a reader did to one label and one weight
3.  `rules`        the settings as the machine uses them, and from which prediction on
4.  `slates`       one slate as it is held, and an outcome that waits
5.  `timers`       what is due before the watermark
6.  `marks`        where to begin to read the inputs again
7.  `emit`         samples as bytes
8.  `join`         the machine
9.  `changes`      what the changelog says of it
10. `partitions`   one partition's machine with its transactional producer: restore, feed, commit
11. `engine`       the service: one consumer for all partitions, rebalances
12. `features`     real-time features in Redis
13. `deadletters`  list what was refused, feed it again
14. `metrics`      Prometheus and the ledger over HTTP
15. `worker`       the Faust app, and `run`
"""
