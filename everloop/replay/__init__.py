"""Replay: a log asked and told again, on a compressed clock, through the doors that everybody uses.

Here belongs what plays the recommendation service and the event producers of a log: its slates become requests to the
gateway, its clicks become outcomes on Kafka, both with the log's own event time, and its ticks say how far that time has
come. Nothing in here reads a model or a label; how logs are read is `everloop.logs`.

Read in this order:

1. `pace`       the compressed clock
2. `frontier`   the event time below which all is done, a pure core
3. `lanes`      what is to be asked and told next, in the order of event time, a pure core
4. `ask`        one request, retried until it is answered
5. `confirm`    which predictions have reached Kafka
6. `tell`       outcomes and ticks to Kafka
7. `tally`      what happened, in numbers
8. `run`        all of it together
"""
