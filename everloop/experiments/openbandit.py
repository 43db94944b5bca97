"""The same inputs through the Open Bandit Pipeline: its own sample log, where every slot is a decision by itself, and slates of ours.

The sample is 10,000 impressions of the Open Bandit Dataset under a random policy; asked is the Bernoulli Thompson sampling that ran beside
it, with the library's own reward model. It comes with the library, and stays there.

Source: Saito et al., Open Bandit Dataset and Pipeline, NeurIPS 2021.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from everloop.evaluation.interval import Terms
from everloop.evaluation.inverse import ips, rips, sn_rips, snips
from everloop.evaluation.policies import parse
from everloop.evaluation.robust import doubly_robust, switch
from everloop.evaluation.walk import Walk, places
from everloop.evaluation.weights import weights
from everloop.experiments.assumptions import LOOKED_AT, SLOTS, requests, serial
from everloop.experiments.slates import drawn, told
from everloop.figures import Peer
from everloop.peers import environment

RAN: Final = parse("softmax(1)+uniform(0.1)")
ASKED: Final = parse("softmax(0.5)+uniform(0.02)")
COUNT: Final = 5_000


def compared() -> list[Peer]:
    """The library's estimates beside ours: the ratio is ours over theirs.

    Raises:
        UnavailableError: its environment cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="everloop-obp-") as folder:
        path = Path(folder) / "sample.npz"
        theirs = environment.run("evaluate", "bandit.py", "sample", str(path))
        found = _beside(theirs, _sample(path), "sample")
        path = Path(folder) / "slates.npz"
        ours = _slates(path)
        theirs = environment.run("evaluate", "bandit.py", "slates", str(path))
        return found + _beside(theirs, ours, "slates")


def _beside(theirs: dict[str, Any], ours: dict[str, Terms], log: str) -> list[Peer]:
    return [
        Peer(
            name=theirs["name"],
            version=theirs["version"],
            figure=f"{log}_{name}",
            value=value,
            unit="",
            ratio=ours[name].value / value,
        )
        for name, value in theirs["estimates"].items()
    ]


def _sample(path: Path) -> dict[str, Terms]:
    with np.load(path) as log:
        row, action = np.arange(len(log["reward"])), log["action"]
        rewards = log["reward"].astype(np.float64)[:, None]
        with np.errstate(divide="ignore"):
            weight = weights(np.log(log["pscore"]), np.log(log["chances"][row, action]))[:, None]
        predicted = log["predicted"][row, action][:, None]
        expected = (log["predicted"] * log["chances"]).sum(axis=1, keepdims=True)
        threshold = float(log["switch"])
    return {
        "ips": ips(weight, rewards),
        "snips": snips(weight, rewards),
        "dr": doubly_robust(weight, rewards, predicted, expected),
        "switch_dr": switch(weight, rewards, predicted, expected, threshold=threshold),
    }


def _slates(path: Path) -> dict[str, Terms]:
    """Log slates of the serial world for the library to read, and estimate with the same reward model: score times examination."""
    random = np.random.default_rng(1)
    them = requests(COUNT, random)
    slates, logs = drawn(RAN, them.scores, SLOTS, random)
    clicks = random.random(slates.shape) < serial(them, slates)
    logged = told((RAN, ASKED), them.scores, slates, logs, clicks)
    walk, chances = Walk(ASKED, them.scores, places(them.scores)), []
    for shown in slates.T:
        chances.append(walk.next())
        walk.take(shown)
    np.savez(
        path,
        slates=slates,
        rewards=logged.rewards,
        logging=logged.logging,
        target=logged.target,
        chances=np.stack(chances, axis=1),
        predicted=them.scores[:, None, :] * LOOKED_AT[:, None],
    )
    weight = weights(logged.logging, logged.target)
    return {
        "ips": ips(weight, logged.rewards),
        "snips": snips(weight, logged.rewards),
        "rips": rips(weight, logged.rewards),
        "sn_rips": sn_rips(weight, logged.rewards),
        "dr": doubly_robust(weight, logged.rewards, logged.scores * LOOKED_AT, logged.expected * LOOKED_AT),
    }
