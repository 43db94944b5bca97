"""The demo: every part on one machine, a real log through the running loop, and a report of what happened.

Here belongs what starts, watches and judges one whole run. What the run consists of belongs to the parts, how a log
is replayed to `everloop.replay`, how figures are written to `everloop.figures`.

Read in this order:

1. `profile`    the settings of a loop over one log
2. `folder`     the demo's own data folder
3. `freshness`  from an outcome to the first answer that knows it, a pure core
4. `observe`    what flows through Kafka while the demo runs
5. `progress`   the trainer's settled rows as curves
6. `measure`    the figures, and which of them are not met
7. `screen`     the live table, or plain lines
8. `plots`, `report`    report.html and report.json
9. `run`        all of it together
"""
