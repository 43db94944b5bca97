"""The local runtime: what starts every part of the loop on one machine, watches it and stops it.

Here belongs what an operating system sees: processes, ports, folders, locks. What a part does belongs to the part.
Nothing in here knows an event, a model or a topic's content.

Read in this order:

1. ports    free ports on the loopback interface
2. warden   the watcher that kills what its owner leaves behind
3. launch   the few lines between fork and exec
4. spawn    starting and stopping one process under the warden
5. jars     Kafka's jars, fetched once and checked
6. kafka    one Apache Kafka node on the JVM
7. redis    one Redis server
8. parts    what a part is, and the data folder's layout
9. supervise    starting, watching, restarting and stopping all parts
"""
