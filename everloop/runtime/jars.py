"""Kafka's jars: resolved by jgo from Maven coordinates, fetched once into the user's cache, checked at every start.

`jgo.lock.toml` beside this module pins every jar with its SHA-256; `jgo.toml` says what was asked for. Nothing is
resolved at run time: each locked jar is fetched by its coordinates and has the locked bytes, or is not used.
To move to another release: edit jgo.toml, then `python -m everloop.runtime.jars lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.errors import CorruptError, EverloopError, UnavailableError

SPEC = Path(__file__).with_name("jgo.toml")
LOCK = Path(__file__).with_name("jgo.lock.toml")


@dataclass(frozen=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def filename(self) -> str:
        """The file's name in the cache, as in a Maven repository."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.jar"


def locked(lock: Path = LOCK) -> list[Jar]:
    """Return the jars of a lock file."""
    table = tomllib.loads(lock.read_text(encoding="utf-8"))
    return [
        Jar(each["groupId"], each["artifactId"], each["version"], each.get("classifier", ""), each["sha256"])
        for each in table["dependencies"]
    ]


def cache_folder() -> Path:
    """Return everloop's folder in the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "everloop"


def intact(path: Path, jar: Jar) -> bool:
    """Say whether the file is there with the locked bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def missing(jars: list[Jar], *, folder: Path) -> list[Jar]:
    """Return the jars that are absent from the folder or corrupt in it."""
    with ThreadPoolExecutor(4) as pool:
        good = list(pool.map(lambda jar: intact(folder / jar.filename, jar), jars))
    return [jar for jar, fine in zip(jars, good, strict=True) if not fine]


Fetch = Callable[[Jar, Path], Path]
"""Downloads one jar into an empty folder and returns where it is."""


def fetch_by_jgo(jar: Jar, scratch: Path) -> Path:
    """Download one jar from Maven's central repository.

    Raises:
        UnavailableError: the repository does not answer, or jgo is not installed.
    """
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise UnavailableError("jgo is not installed: pip install 'everloop[local]'") from error
    context = MavenContext(repo_cache=scratch, timeout=60)
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact(jar.classifier)
    try:
        return Path(artifact.resolve())
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"{jar.filename} can't be fetched from the Maven repository: {error}") from error


def ensure(
    jars: list[Jar] | None = None,
    *,
    folder: Path | None = None,
    fetch: Fetch = fetch_by_jgo,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Return the paths of all jars, having fetched those that are absent or corrupt.

    Two processes that ask at once fetch once: the second waits at the lock and finds them there.

    Raises:
        UnavailableError: a jar can't be fetched.
        CorruptError: a fetched jar has not the locked bytes.
    """
    jars = locked() if jars is None else jars
    folder = folder or cache_folder() / "jars"
    if missing(jars, folder=folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder / ".lock"):
            wanted = missing(jars, folder=folder)
            if wanted:
                say(f"fetching {len(wanted)} jars of Apache Kafka into {folder} (once)")
                _fetch_all(wanted, folder=folder, fetch=fetch)
    return [folder / jar.filename for jar in jars]


def _fetch_all(jars: list[Jar], *, folder: Path, fetch: Fetch) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    try:
        with ThreadPoolExecutor(8) as pool:
            for outcome in [pool.submit(_fetch_one, jar, scratch, folder, fetch) for jar in jars]:
                outcome.result()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch_one(jar: Jar, scratch: Path, folder: Path, fetch: Fetch, attempts: int = 3) -> None:
    for attempt in range(attempts):
        try:
            place = scratch / f"{jar.filename}-{attempt}"
            place.mkdir()
            fetched = fetch(jar, place)
            if not intact(fetched, jar):
                raise CorruptError(f"{jar.filename}: the fetched file has not the SHA-256 of {LOCK.name}")
            fetched.replace(folder / jar.filename)
            return
        except EverloopError:
            if attempt == attempts - 1:
                raise


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def relock() -> int:
    """Resolve jgo.toml anew and write jgo.lock.toml; return how many jars it pins."""
    from jgo.env import EnvironmentBuilder, EnvironmentSpec
    from jgo.maven import MavenContext

    os.chdir(SPEC.parent)  # jgo hashes the jgo.toml of the current folder into the lock
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch) / "m2", timeout=60)
        builder = EnvironmentBuilder(context=context, cache_dir=Path(scratch) / "env")
        lock = builder.resolve_lockfile(EnvironmentSpec.load(SPEC))
        lock.save(LOCK)
    return len(lock.dependencies)


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        print(f"{LOCK}: {relock()} jars")
    elif sys.argv[1:] == ["fetch"]:
        print(f"{len(ensure(say=print))} jars in {cache_folder() / 'jars'}")
    else:
        sys.exit("usage: python -m everloop.runtime.jars lock|fetch")
