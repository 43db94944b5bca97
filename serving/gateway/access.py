"""API keys: who calls, and what the key allows. Only hashes are kept. `python -m serving.gateway.access NAME SCOPE…` makes a key."""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Iterable
from typing import Final, get_args

from serving.gateway.bucket import Bucket
from serving.gateway.problems import ProblemError
from serving.gateway.settings import KeySettings, Scope

ALL: Final = frozenset(get_args(Scope))


class Caller:
    """Whoever calls: a key's name, scopes and rate."""

    __slots__ = ("bucket", "name", "scopes")

    def __init__(self, name: str, scopes: Iterable[str], bucket: Bucket | None) -> None:
        self.name, self.scopes, self.bucket = name, frozenset(scopes), bucket


ANONYMOUS: Final = Caller("anonymous", ALL, None)
"""The caller where no keys are configured."""


class Access:
    """Looks callers up by their key."""

    def __init__(self, keys: Iterable[KeySettings]) -> None:
        self._callers = {k.sha256: Caller(k.name, k.scopes, Bucket(k.rate, k.burst) if k.rate else None) for k in keys}

    @property
    def open(self) -> bool:
        """Whether no keys are configured."""
        return not self._callers

    def admit(self, key: str, scope: str, now: float) -> Caller:
        """Find the caller and take one request from its rate.

        Raises:
            ProblemError: 401 unknown key, 403 scope missing, 429 rate used up.
        """
        if not self._callers:
            return ANONYMOUS
        caller = self._callers.get(digest(key))
        if caller is None:
            raise ProblemError(
                401, "send `Authorization: Bearer KEY` or `X-API-Key: KEY` with a key that is configured"
            )
        if scope not in caller.scopes:
            raise ProblemError(403, f"key {caller.name} lacks scope {scope}: it has {', '.join(sorted(caller.scopes))}")
        wait = caller.bucket.take(now) if caller.bucket else 0.0
        if wait:
            raise ProblemError(429, f"key {caller.name} may make {caller.bucket.rate:g} requests/s", retry_s=wait)  # type: ignore[union-attr]
        return caller


def digest(key: str) -> str:
    """Hex SHA-256 of a key. A fast hash is enough: keys are 256 random bits, there is nothing to guess."""
    return hashlib.sha256(key.encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Print a new key, and the lines for everloop.toml."""
    if len(arguments) < 2 or not set(arguments[1:]) <= ALL:
        print(
            f"usage: python -m serving.gateway.access NAME SCOPE…   (scopes: {', '.join(sorted(ALL))})", file=sys.stderr
        )
        return 2
    key = secrets.token_urlsafe(32)
    scopes = ", ".join(f'"{scope}"' for scope in arguments[1:])
    print(
        f'key (shown once): {key}\n\n[[gateway.keys]]\nname = {arguments[0]!r}\nsha256 = "{digest(key)}"\nscopes = [{scopes}]'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
