"""Steering living versions: what a person or a watcher orders, how it is written, and what can be asked afterwards.

Orders are records on the control topic; trainer and followers obey them. Nothing here talks to a model server.

Read in this order:

1. `orders`    pin, unpin, rollback, resume, canary: one control record to the next; pure
2. `topics`    compacted topics as they stand now
3. `control`   an order is written, and waited for until the replicas have carried it out
4. `versions`  what is known of each version, as a table
5. `explain`   from a request to what its model had learned, and to what it taught
6. `canary`    an anytime-valid verdict on two versions; pure
7. `guard`     whether a new version makes the gateway fail; pure
8. `watch`     the process that runs the last two and acts on them
"""
