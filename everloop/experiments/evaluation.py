"""`everloop experiment evaluation`: are the off-policy estimates right, and as sure as they say they are?

- `ope_rel_rmse`: root mean square error relative to the truth, over the newsroom's requests of many seeds.
- `coverage`: how often a 95 % interval holds the truth, over many short logs of the newsroom.
- `bias_WORLD_ESTIMATOR`: mean relative error where an assumption holds and where it does not (`assumptions`).
- peers: the same inputs through the Open Bandit Pipeline (`openbandit`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from everloop.evaluation.evaluate import estimates
from everloop.evaluation.interval import Terms, interval
from everloop.evaluation.logged import Doubles, Integers, Logged
from everloop.evaluation.marginals import marginals
from everloop.evaluation.policies import parse
from everloop.evaluation.pseudo import pseudo_inverse, slate_weights
from everloop.evaluation.walk import places
from everloop.evaluation.weights import effective, weights
from everloop.experiments import Options
from everloop.experiments.assumptions import SLOTS, WORLDS, requests, value
from everloop.experiments.openbandit import compared
from everloop.experiments.slates import drawn, told
from everloop.figures import Figure, Report, figure, report
from newsroom.settings import ReaderSettings, WorldSettings
from newsroom.world import World
from serving.gateway.settings import PolicySettings

ASKED: Final = parse("epsilon_greedy(0.05)")
"""The policy in question."""
RAN_FAR: Final = parse("epsilon_greedy(0.6)")
"""The policy that ran in the newsroom for long logs: far enough that a fiftieth of the slates counts."""
RAN_NEAR: Final = parse("epsilon_greedy(0.3)")
"""For short ones: near enough that they are not refused."""
RAN_SHORT: Final = parse("epsilon_greedy(0.8)")
"""In the small worlds, where slates are short."""
REQUESTS: Final = 100_000
"""Of one seed."""
RUNS: Final = 1_000
LENGTH: Final = 5_000
"""Requests of one of the short logs."""
_NOISE: Final = 0.5
"""How much the model errs about an article's attraction, as a standard deviation in logits."""


@dataclass(frozen=True)
class Room:
    """The newsroom's requests, and what is true of them: [requests, candidates]."""

    scores: Doubles
    attraction: Doubles
    examination: Doubles
    """[slots]"""

    def value(self) -> float:
        """True clicks per slate of the policy in question: exactly, over all the slates that it may show."""
        slots = len(self.examination)
        chance = marginals(ASKED, self.scores.shape[1], slots).one.reshape(slots, -1)
        by_rank = np.take_along_axis(self.attraction, np.argsort(places(self.scores), axis=1), axis=1)
        return float(((by_rank @ chance.T) * self.examination).sum(axis=1).mean())

    def log(self, ran: PolicySettings, which: Integers | slice, random: np.random.Generator) -> Logged:
        """Let a policy answer some requests, and the readers click."""
        scores, attraction = self.scores[which], self.attraction[which]
        slates, logs = drawn(ran, scores, len(self.examination), random)
        truth = np.take_along_axis(attraction, slates, axis=1) * self.examination
        return told((ran, ASKED), scores, slates, logs, random.random(truth.shape) < truth)


def run(options: Options) -> Report:
    """Measure all of it. `--scale` below 1 shortens every log and the number of short ones."""
    count = max(1_000, round(REQUESTS * options.scale))
    found = [
        *errors(options.seeds, count),
        *coverage(count, max(20, round(RUNS * options.scale))),
        *biases(options.seeds, count),
    ]
    peers = compared()
    worst = max(abs(peer.ratio - 1.0) for peer in peers)
    return report("experiment evaluation", [*found, figure("peer_rel_difference", "", [worst])], peers)


def room(seed: int, count: int) -> Room:
    """A day of the newsroom, its first `count` requests, and a model that knows its readers' taste but for some noise."""
    settings = WorldSettings(days=1.0, readers=replace(ReaderSettings(), visits_per_day=1.1 * count))
    world = World(settings, seed)
    visits = world.visits.part(slice(0, count))
    attraction = world.attraction(visits, world.candidates(visits))
    logit = np.log(attraction) - np.log1p(-attraction)
    logit += _NOISE * np.random.default_rng(seed).standard_normal(attraction.shape)
    return Room(1.0 / (1.0 + np.exp(-logit)), attraction, world.examination)


def answers(logged: Logged) -> dict[str, Terms]:
    """Every estimator's answer, by name."""
    weight = weights(logged.logging, logged.target)
    found = {name: terms for name, (_, terms) in estimates(logged, weight).items()}
    solved = slate_weights(parse(logged.policies[0]), ASKED, int(logged.candidates[0]), logged.ranks)
    return found | {"pseudo_inverse": pseudo_inverse(solved, logged.rewards)}


def errors(seeds: int, count: int) -> Iterator[Figure]:
    """Errors against the truth of the very same requests, and how much the weights leave at the worst slot."""
    found: dict[str, list[float]] = {}
    sizes, gains = [], []
    for seed in range(1, seeds + 1):
        here = room(seed, count)
        logged, truth = here.log(RAN_FAR, slice(None), np.random.default_rng(seed)), here.value()
        for name, terms in answers(logged).items():
            found.setdefault(name, []).append(terms.value / truth - 1.0)
        sizes.append(effective(weights(logged.logging, logged.target)).min())
        gains.append(truth / logged.rewards.sum(axis=1).mean() - 1.0)
    by = {name: _rms(each) for name, each in found.items()}
    yield figure("ope_rel_rmse", "", [max(by["dr"], by["sn_rips"])])
    yield figure("least_effective_sample_size", "", sizes)
    yield figure("true_rel_gain", "", gains)
    for name, each in by.items():
        yield figure(f"rel_rmse_{name}", "", [each])


def coverage(count: int, runs: int) -> Iterator[Figure]:
    """How often the interval of a short log holds the truth. Its requests are drawn from a day's, so the truth is the day's."""
    here, random = room(1, count), np.random.default_rng(1)
    truth = here.value()
    held: dict[str, list[bool]] = {}
    for _ in range(runs):
        for name, terms in answers(here.log(RAN_NEAR, random.integers(0, count, LENGTH), random)).items():
            found = interval(terms)
            held.setdefault(name, []).append(found.low <= truth <= found.high)
    shares = {name: float(np.mean(each)) for name, each in held.items()}
    yield figure("coverage", "", [max(shares.values(), key=lambda share: abs(share - 0.95))])
    for name, share in shares.items():
        yield figure(f"coverage_{name}", "", [share])


def biases(seeds: int, count: int) -> Iterator[Figure]:
    """Relative errors, one run per seed, in worlds that keep to an assumption or do not."""
    for world, truth in WORLDS.items():
        found: dict[str, list[float]] = {}
        for seed in range(1, seeds + 1):
            random = np.random.default_rng(seed)
            them = requests(count, random)
            slates, logs = drawn(RAN_SHORT, them.scores, SLOTS, random)
            clicks = random.random(slates.shape) < truth(them, slates)
            right = value(truth, them, ASKED)
            for name, terms in answers(told((RAN_SHORT, ASKED), them.scores, slates, logs, clicks)).items():
                found.setdefault(name, []).append(terms.value / right - 1.0)
        for name, each in found.items():
            yield figure(f"bias_{world}_{name}", "", each)


def _rms(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
