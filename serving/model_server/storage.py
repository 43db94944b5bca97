"""From a base path to the versions in it.

A version is a child whose whole name is a number: there is no settling time and no test of what it holds, so publishers
write under another name and rename. Local paths and every file system that TensorFlow knows work alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import tensorflow as tf

from serving.model_server.faults import missing

_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_INT64 = range(-(2**63), 2**63)


def parse_version(name: str) -> int | None:
    """The number that a directory's name is: leading zeros, a sign and blanks around it are allowed.

    >>> parse_version("00000123"), parse_version("1_tmp"), parse_version("1.0")
    (123, None, None)
    """
    match = _NUMBER.fullmatch(name)
    if match is None:
        return None
    number = int(match[1])
    return number if number in _INT64 else None


def find_versions(names: Iterable[str]) -> dict[int, str]:
    """Version → child's name. Where two names are one number the lexicographically last one counts.

    Negative numbers are no versions: they parse, but no policy can name them.
    """
    found: dict[int, str] = {}
    for name in sorted(names):
        version = parse_version(name)
        if version is not None and version >= 0:
            found[version] = name
    return found


def list_versions(base_path: str, *, model: str) -> Mapping[int, str]:
    """Version → path, for what lies in `base_path` now.

    Raises:
        ServingError: the base path does not exist.
    """
    try:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(base_path)]
    except tf.errors.OpError as error:
        raise missing(
            f"Could not find base path {base_path} for servable {model} with error {error.message}"
        ) from error
    return {version: tf.io.gfile.join(base_path, name) for version, name in find_versions(names).items()}
