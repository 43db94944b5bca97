"""An anytime-valid verdict on a canary: how many clicks per request it brings, relative to live.

Users, not requests, are drawn at random, so a user is the unit: one user's first requests (at most `cap`, in `window_s`) make
one observation (clicks C, requests N). For a rate r the sum of C − rN over users is a martingale difference exactly when r is
the arm's true E[C]/E[N]; a gambler who bets on its sign from past users alone multiplies their capital, and a rate at which
the capital has ever passed 1/α is no longer believed, however often one has looked. Both arms are independent, so for a pair
of rates the product of their capitals is such a capital too; the interval for the ratio of the rates holds all pairs that are
still believed.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 86 (2024), theorem 3 (the
hedged capital process) with the predictable plug-in bets of its equation 26; Ville's inequality for the anytime validity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from everloop.steer.settings import CanarySettings
from feedback.clock import to_us

Array = np.ndarray[Any, np.dtype[np.float64]]
Arm = Literal["live", "canary"]

_BLOCK = 64
"""Users bet on together: the bets then rest on the blocks before, which keeps them predictable."""
_TRUNCATION = 0.5
"""Share of the capital that can be lost at most on one user."""


class Capital:
    """The logarithm of the hedged capital for each rate of a grid, in one arm."""

    def __init__(self, rates: Array, settings: CanarySettings) -> None:
        self.rates, self.users = rates, 0
        self._alpha = 1.0 - settings.confidence
        self._up, self._down = np.zeros_like(rates), np.zeros_like(rates)
        # C − rN lies between −r·cap and clicks·cap.
        self._lowest, self._highest = rates * settings.cap, float(settings.clicks * settings.cap)
        self._sums = np.zeros(3)
        self._waiting: list[tuple[int, int]] = []

    def add(self, clicks: int, requests: int) -> None:
        """Take one user."""
        self._waiting.append((clicks, requests))
        if len(self._waiting) >= _BLOCK or self.users < _BLOCK:
            self.settle()

    def settle(self) -> None:
        """Bet on those who wait."""
        if not self._waiting:
            return
        clicks, requests = (np.array(column, float) for column in zip(*self._waiting, strict=True))
        self._waiting.clear()
        up, down = self._bets(len(clicks))
        gains = clicks[:, None] - requests[:, None] * self.rates
        self._up += np.log1p(up * gains).sum(axis=0)
        self._down += np.log1p(-down * gains).sum(axis=0)
        self.users += len(clicks)
        self._sums += [np.sum(clicks * clicks), np.sum(clicks * requests), np.sum(requests * requests)]

    def _bets(self, coming: int) -> tuple[Array, Array]:
        """How much to bet on each sign, from what is past."""
        n = self.users
        cc, cn, nn = self._sums
        # One imagined user at the widest keeps the first bets small.
        spread = (cc - 2 * self.rates * cn + self.rates**2 * nn + self._highest**2 / 4) / (n + 1)
        time = n + coming
        bet = np.sqrt(2 * math.log(2 / self._alpha) / (spread * time * math.log(time + 1)))
        return np.minimum(bet, _TRUNCATION / self._lowest), np.minimum(bet, _TRUNCATION / self._highest)

    def log(self) -> Array:
        """Log of the mean of both capitals, per rate."""
        return np.asarray(np.logaddexp(self._up, self._down) - math.log(2.0))


@dataclass(frozen=True)
class Interval:
    """What is still believed of canary's clicks per request over live's, less 1."""

    low: float
    high: float
    users_live: int
    users_canary: int


class Sequence:
    """The confidence sequence of the relative difference: intervals that only shrink, all of them right with the confidence."""

    def __init__(self, settings: CanarySettings) -> None:
        rates = np.geomspace(settings.low, settings.clicks, settings.grid)
        # Between two rates of the grid nothing is known: the ends are widened by a step.
        self._step = float(rates[1] / rates[0])
        self._threshold = math.log(1.0 / (1.0 - settings.confidence))
        self._arms: dict[Arm, Capital] = {"live": Capital(rates, settings), "canary": Capital(rates, settings)}
        self._low, self._high = -1.0, math.inf

    def add(self, arm: Arm, clicks: int, requests: int) -> None:
        """Take one user's clicks and requests."""
        self._arms[arm].add(clicks, requests)

    def interval(self) -> Interval:
        """The interval now."""
        live, canary = self._arms["live"], self._arms["canary"]
        live.settle()
        canary.settle()
        of_live, of_canary = live.log(), canary.log()
        believed = of_live[:, None] + of_canary[None, :] < self._threshold
        if believed.any():
            ratios = canary.rates[None, :] / live.rates[:, None]
            self._low = max(self._low, float(ratios[believed].min()) / self._step - 1.0)
            self._high = min(self._high, float(ratios[believed].max()) * self._step - 1.0)
        return Interval(self._low, self._high, live.users, canary.users)


@dataclass
class _User:
    arm: Arm
    opened: int
    requests: int = 0
    clicks: int = 0


class Users:
    """Gathers settled requests into one observation per user. Times are event time, µs."""

    def __init__(self, settings: CanarySettings) -> None:
        self._settings = settings
        self._open: dict[str, _User] = {}
        self._closed: set[str] = set()

    def request(self, user: str, arm: Arm, clicks: int, at: int) -> tuple[Arm, int, int] | None:
        """Take a settled request; answer the user's observation when it is complete. A user stays in the first arm seen."""
        if user in self._closed:
            return None
        found = self._open.setdefault(user, _User(arm, at))
        if at - found.opened > to_us(self._settings.window_s):
            return self._close(user)
        if found.arm != arm:
            return None
        found.requests += 1
        found.clicks += min(clicks, self._settings.clicks)
        return self._close(user) if found.requests >= self._settings.cap else None

    def expire(self, watermark: int) -> list[tuple[Arm, int, int]]:
        """The observations of users whose window is over."""
        over = [u for u, found in self._open.items() if watermark - found.opened > to_us(self._settings.window_s)]
        return [self._close(user) for user in over]

    def _close(self, user: str) -> tuple[Arm, int, int]:
        found = self._open.pop(user)
        self._closed.add(user)
        return found.arm, found.clicks, found.requests


@dataclass(frozen=True)
class Verdict:
    """What is to become of the canary."""

    action: Literal["drop", "promote", "keep", "wait"]
    """`keep`: the horizon is reached, the old one stays."""
    reason: str
    interval: Interval


def judge(interval: Interval, *, elapsed_s: float, settings: CanarySettings) -> Verdict:
    """Decide: dropped when its upper end is below 0, promoted when its lower end is above −margin, kept out at the horizon."""
    text = f"clicks per request {interval.low:+.2%} to {interval.high:+.2%} against live"
    text += f" ({interval.users_canary} and {interval.users_live} users)"
    if interval.high < 0:
        return Verdict("drop", f"worse: {text}", interval)
    if interval.low > -settings.margin:
        return Verdict("promote", f"no worse than {settings.margin:.1%}: {text}", interval)
    if elapsed_s >= settings.horizon_s:
        return Verdict("keep", f"undecided at the horizon of {settings.horizon_s:g} s: {text}", interval)
    return Verdict("wait", text, interval)
