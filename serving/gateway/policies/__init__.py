"""From scores to a slate, with the exact probability of what was shown. Pure: a seed in, no clock and no I/O.

A slate is filled slot by slot. Each policy says with what probability it puts which of the remaining items into the next
slot; the probability of a prefix is the product, and it is computed, never estimated. A share of the requests may be
answered by the uniform policy instead: what is logged is then the probability under the mixture of both, whichever drew
the slate, since that is the distribution that slates come from. Read in this order:

1. `slate`      candidates, the policy protocol, and the mixture
2. `greedy`     the best first
3. `epsilon`    the best, or with probability ε any
4. `softmax`    Plackett–Luce
5. `thompson`   the best of a bootstrap head that is drawn afresh per slot
6. `choose`     settings to a policy
"""
