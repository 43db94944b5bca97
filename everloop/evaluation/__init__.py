"""Off-policy evaluation: what another ranking policy would have brought, from what was logged under the one that ran.

Here belongs what turns logged slates, their propensities and what readers did into estimates that say how sure they are, and what refuses
logs that cannot answer. Nothing here learns, ranks for readers or writes to a topic. Read in this order:

1. `logged`     slates as arrays
2. `weights`    importance weights, and how many slates they leave
3. `interval`   from one number per slate to an estimate with its interval
4. `inverse`    IPS, SNIPS, RIPS and its self-normalised form
5. `robust`     doubly robust and switch, by slot
6. `marginals`  how often a policy puts which rank into which slot, and which pairs
7. `pseudo`     the pseudo-inverse estimator
8. `walk`       the gateway's policies on arrays: what may come into the next slot
9. `policies`   names to policies and back
10. `rewards`   a cross-fitted reward model for the doubly robust ones
11. `pair`      predictions and outcomes of a time range to labelled slates
12. `topics`    where those come from: Kafka, or a file of the same records
13. `recall`    labelled slates to arrays, with the gateway's own probabilities
14. `refuse`    what cannot be answered, with the numbers
15. `evaluate`  all of it

Everywhere n is the number of slates and a slot's weight is that of the prefix up to and with it.
"""
