"""From settings to the whole policy."""

from __future__ import annotations

from serving.gateway.policies.epsilon import EpsilonGreedy
from serving.gateway.policies.greedy import Greedy
from serving.gateway.policies.slate import Mixture, Policy
from serving.gateway.policies.softmax import Softmax
from serving.gateway.policies.thompson import Thompson
from serving.gateway.settings import PolicySettings


def choose(settings: PolicySettings) -> Mixture:
    """The configured policy, mixed with its share of uniform traffic."""
    policies: dict[str, Policy] = {
        "greedy": Greedy(),
        "epsilon_greedy": EpsilonGreedy(settings.epsilon),
        "softmax": Softmax(settings.temperature),
        "thompson": Thompson(settings.epsilon),
    }
    return Mixture(policies[settings.name], settings.uniform_share)
