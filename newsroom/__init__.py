"""The newsroom: a simulated world whose click probabilities are known, to tell whether the loop does what it says.

Here belongs what happens outside the loop: articles, readers, what they do and when word of it arrives. It uses the public clients
(`serving.client`, `feedback.produce`) and nothing else of the loop, so that it can run against any installation. What is tried in it
(policies, label rules, estimators) stands in everloop/experiments and everloop/evaluation. Read in this order:

1. `keyed`     random numbers that are a function of what they are for
2. `settings`  what can be set, with the fitted values as defaults
3. `articles`  publishing, bursts, decay, breaking news: how popular what is when
4. `readers`   who visits when, in which context
5. `taste`     what draws a reader to an article besides its popularity
6. `reading`   the visits: what readers read by themselves, as a click log
7. `world`     requests, candidates, click probabilities of any slate, and what comes of it
8. `arrival`   the order and the times in which word of it arrives
9. `log`       what readers read by themselves, as slates with one click

and, for readers as clients of a loop that runs:

10. `requests` visits as a web server puts them to a recommendation service
11. `outbox`   outcomes until word of them is sent
12. `live`     requests to the gateway at their times, outcomes to Kafka
13. `tally`    what came of it
"""
