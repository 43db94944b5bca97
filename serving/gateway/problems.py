"""Errors as RFC 9457 problem details: one exception that any handler may raise, and its bytes."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from serving.gateway.messages import Problem, Verdict

MEDIA_TYPE: Final = b"application/problem+json"

_TITLES: Final = {
    400: ("not-json", "The body is not JSON"),
    401: ("unauthorized", "An API key is needed"),
    403: ("forbidden", "The API key's scopes do not allow this"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "The method is not allowed here"),
    408: ("body-timeout", "The body did not come in time"),
    413: ("too-large", "The body is too large"),
    422: ("invalid", "The request is not as the contract says"),
    429: ("rate-limited", "The API key's rate is used up"),
    500: ("internal", "The gateway has failed; its log says why"),
    503: ("unavailable", "The gateway cannot take this now"),
}
_PATH: Final = re.compile(r"(?:field `(?P<missing>[^`]+)`)?(?: - at `\$\.?(?P<path>[^`]*)`)?$")


class ProblemError(Exception):
    """A request that gets a problem for an answer. `headers` go with it."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        field: str = "",
        verdicts: list[Verdict] | None = None,
        retry_s: float = 0,
    ) -> None:
        self.status, self.detail, self.field, self.verdicts, self.retry_s = (
            status,
            detail,
            field,
            verdicts or [],
            retry_s,
        )
        super().__init__(detail)

    def body(self) -> bytes:
        """The problem's JSON."""
        name, title = _TITLES[self.status]
        return msgspec.json.encode(
            Problem(
                type=f"urn:everloop:problem:{name}",
                title=title,
                status=self.status,
                detail=self.detail,
                field=self.field,
                verdicts=self.verdicts,
            )
        )


def refused(error: Exception) -> ProblemError:
    """The problem of a body that msgspec refused: 422 with the field's path, 400 where it is no JSON at all."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return ProblemError(400, text)
    return ProblemError(422, text, field=field_of(text))


def field_of(text: str) -> str:
    """The field that a msgspec message is about: `candidates[2].id`."""
    found = _PATH.search(text)
    if not found:
        return ""
    parts = [part for part in (found.group("path"), found.group("missing")) if part]
    return ".".join(parts)
