"""Policies by the names under which they are logged: `epsilon_greedy(0.1)+uniform(0.02)`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import msgspec

from feedback.errors import UsageError
from serving.gateway.settings import PolicySettings

_NAME: Final = re.compile(r"(?P<name>[a-z_]+)(\((?P<value>[^()]*)\))?(\+uniform\((?P<share>[^()]*)\))?")
_PARAMETER: Final = {"epsilon_greedy": "epsilon", "softmax": "temperature", "thompson": "epsilon"}
_ALLOWED: Final = (
    "greedy, epsilon_greedy(SHARE), softmax(TEMPERATURE), thompson(SHARE), each with +uniform(SHARE) or without"
)


def parse(text: str, default: PolicySettings | None = None) -> PolicySettings:
    """The policy of a name. A parameter that is left out is the default's; a uniform share that is left out is none.

    >>> parse("epsilon_greedy(0.1)+uniform(0.02)").uniform_share
    0.02

    Raises:
        UsageError: it is none.
    """
    found = _NAME.fullmatch(text.strip())
    if not found:
        raise _wrong(text, _ALLOWED)
    name, value = found["name"], found["value"]
    fields: dict[str, object] = {"name": name, "uniform_share": _number(text, found["share"] or "0")}
    if value is not None:
        if name not in _PARAMETER:
            raise _wrong(text, _ALLOWED)
        fields[_PARAMETER[name]] = _number(text, value)
    known = msgspec.to_builtins(replace(default or PolicySettings(), uniform_share=0.0))
    try:
        return msgspec.convert(known | fields, PolicySettings)
    except msgspec.ValidationError as error:
        raise _wrong(text, f"{_ALLOWED}; {error}") from error


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise _wrong(text, f"{value!r} is no number") from error


def _wrong(text: str, allowed: str) -> UsageError:
    return UsageError(f"policy = {text!r}: {allowed}")
