"""JSON text to values, as the official server's parser (RapidJSON) reads it.

It differs from Python's in what matters to clients: NaN, Inf and Infinity are numbers, bytes after the document are
ignored, a byte-order mark is skipped, the first of two equal keys counts, a number too large for a double is an error, and
a document may be nested without limit. Python's own scanner reads what it can; what it refuses is read again, slowly, by
the parser below, which either makes sense of it or knows the error's text and offset.

Strings are decoded with `surrogateescape`: bytes that are no UTF-8 pass through unharmed, as they do there.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from serving.model_server.faults import invalid
from serving.model_server.render import render

_BOM = b"\xef\xbb\xbf"


class _Slow(Exception):
    """Python's scanner read something that RapidJSON reads in another way."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        found = dict(reversed(pairs))
        found = {key: found[key] for key, _ in pairs}
    return found


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Slow
    return value


_SCANNER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_float)


def parse(body: bytes) -> dict[str, Any]:
    """The top-level object of a request's body.

    Raises:
        ServingError: it is no JSON, or no object.
    """
    value = _value(body.removeprefix(_BOM))
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {render(value)} Is not object")
    return value


def _value(body: bytes) -> Any:
    text = body.decode("utf-8", "surrogateescape")
    stripped = text.lstrip(" \t\r\n")
    if not stripped:
        raise invalid("JSON Parse error: The document is empty")
    try:
        return _SCANNER.raw_decode(stripped)[0]
    except (ValueError, RecursionError, _Slow):
        return _Parser(text).parse()


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(r"[0-9]+")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, tuple[str, Any]] = {"n": ("null", None), "t": ("true", True), "f": ("false", False)}


class _Parser:
    """An iterative parser: depth costs memory, not stack."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def _fail(self, what: str, at: int | None = None) -> Exception:
        offset = len(self._text[: self._at if at is None else at].encode("utf-8", "surrogateescape"))
        return invalid(f"JSON Parse error: {what} at offset: {offset}")

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _space(self) -> str:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._peek()

    def parse(self) -> Any:
        """The first value of the text; what follows it is not read."""
        root: list[Any] = []
        stack: list[list[Any] | dict[str, Any]] = [root]
        keys: list[str] = [""]
        self._space()
        while True:
            if self._open(stack, keys):
                continue
            self._close(stack, keys)
            if len(stack) == 1:
                return root[0]

    def _open(self, stack: list[Any], keys: list[str]) -> bool:
        """Read a value where one is due; whether it is a container with something in it."""
        char = self._peek()
        if char not in ("[", "{"):
            self._put(stack[-1], keys[-1], self._scalar(char))
            return False
        made: list[Any] | dict[str, Any] = [] if char == "[" else {}
        self._put(stack[-1], keys[-1], made)
        self._at += 1
        if self._space() == ("]" if char == "[" else "}"):
            self._at += 1
            return False
        stack.append(made)
        keys.append("")
        if char == "{":
            keys[-1] = self._key()
        return True

    def _close(self, stack: list[Any], keys: list[str]) -> None:
        """After a value: on to the next one, or out of the containers that end here."""
        while len(stack) > 1:
            inside = stack[-1]
            is_list = isinstance(inside, list)
            char = self._space()
            if char == ",":
                self._at += 1
                self._space()
                if not is_list:
                    keys[-1] = self._key()
                return
            if char != ("]" if is_list else "}"):
                what = "array element" if is_list else "object member"
                raise self._fail(f"Missing a comma or {']' if is_list else '}'} after an {what}.")
            self._at += 1
            stack.pop()
            keys.pop()

    def _put(self, into: list[Any] | dict[str, Any], key: str, value: Any) -> None:
        if isinstance(into, list):
            into.append(value)
        else:
            into.setdefault(key, value)

    def _key(self) -> str:
        if self._peek() != '"':
            raise self._fail("Missing a name for object member.")
        name = self._string()
        if self._space() != ":":
            raise self._fail("Missing a colon after a name of object member.")
        self._at += 1
        self._space()
        return name

    def _scalar(self, char: str) -> Any:
        if char == '"':
            return self._string()
        if char in _WORDS and char:
            word, value = _WORDS[char]
            if not self._text.startswith(word, self._at):
                raise self._fail("Invalid value.", self._at + self._common(word))
            self._at += len(word)
            return value
        return self._number()

    def _common(self, word: str) -> int:
        length = 0
        while length < len(word) and self._text.startswith(word[: length + 1], self._at):
            length += 1
        return length

    def _number(self) -> Any:
        start = self._at
        negative = self._peek() == "-"
        body = start + negative
        for word, value in (("NaN", math.nan), ("Infinity", math.inf), ("Inf", math.inf)):
            if self._text.startswith(word, body):
                self._at = body + len(word)
                return -value if negative else value
        match = _NUMBER.match(self._text, start)
        if match is None:
            raise self._fail("Invalid value.", body if negative else start)
        self._at = match.end()
        is_float = False
        if self._peek() == ".":
            is_float = True
            self._digits("Miss fraction part in number.", 1)
        if self._peek() in ("e", "E") and self._peek():
            is_float = True
            self._digits("Miss exponent in number.", 2 if self._text[self._at + 1 : self._at + 2] in ("+", "-") else 1)
        token = self._text[start : self._at]
        number = float(token) if is_float else int(token)
        if math.isinf(number) or (not is_float and abs(number) >= 2**1024):
            raise self._fail("Number too big to be stored in double.", start)
        return number

    def _digits(self, complaint: str, skip: int) -> None:
        match = _FRACTION.match(self._text, self._at + skip)
        if match is None or self._text[self._at + skip - 1 : self._at + skip] == "":
            raise self._fail(complaint, min(self._at + skip, len(self._text)))
        self._at = match.end()

    def _string(self) -> str:
        start = self._at
        self._at += 1
        parts: list[str] = []
        while True:
            match = _PLAIN.match(self._text, self._at)
            assert match is not None
            parts.append(match[0])
            self._at = match.end()
            char = self._peek()
            if char == '"':
                self._at += 1
                return "".join(parts)
            if char == "\\":
                parts.append(self._escape())
            elif char:
                raise self._fail("Invalid encoding in string.")
            else:
                raise self._fail("Missing a closing quotation mark in string.", start)

    def _escape(self) -> str:
        at, kind = self._at, self._text[self._at + 1 : self._at + 2]
        if kind in _ESCAPES and kind:
            self._at += 2
            return _ESCAPES[kind]
        if kind != "u":
            raise self._fail("Invalid escape character in string.", at)
        unit = self._hex(at)
        if 0xD800 <= unit < 0xDC00:
            if self._text[self._at : self._at + 2] != "\\u":
                raise self._fail("The surrogate pair in string is invalid.", at)
            low = self._hex(self._at)
            if not 0xDC00 <= low < 0xE000:
                raise self._fail("The surrogate pair in string is invalid.", at)
            unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
        return chr(unit)

    def _hex(self, at: int) -> int:
        digits = self._text[at + 2 : at + 6]
        if not re.fullmatch(r"[0-9A-Fa-f]{4}", digits):
            raise self._fail("Incorrect hex digit after \\u escape in string.", at)
        self._at = at + 6
        return int(digits, 16)
