"""The streams part: the join of predictions and outcomes into samples, and the real-time features.

Here belong the label rule, the join and its ledger, the state that must outlive a kill, the Faust app that hosts the services, the dead
letters. What learns from samples never does; nothing here imports the trainer or serving. Faust is imported by `worker` alone.

Read in this order:

1.  `settings`     what the join waits for and what it may hold
2.  `labels`       the rule: from what a reader did to one label and one weight
3.  `rules`        the settings as the machine uses them, and from which event on
4.  `slates`       one slate as it is held, and an outcome that waits
5.  `records`      what passes in and out of the machine
6.  `timers`       what is due before the watermark
7.  `marks`        where to begin to read the inputs again
8.  `emit`         samples as bytes
9.  `store`        where slates are: in memory, and on disk
10. `life`         a slate's life: what each stage teaches and counts
11. `join`         the machine: who comes when, restoring
12. `changes`      what the changelog says of it
13. `partitions`   one partition's machine with its transactional producer: restore, feed, commit
14. `engine`       the service: one consumer for all partitions, rebalances
15. `counts`, `features`  real-time features in Redis
16. `deadletters`  list what was refused, feed it again
17. `metrics`      Prometheus and the ledger over HTTP
18. `worker`       the Faust app, and `run`
19. `workload`, `fleet`, `load`, `chaos`, `bench`  proof and figures
"""
