"""Compile a Go program once: a file in the user's cache, under a name made of everything that it depends on.

A module's folder holds go.mod, go.sum and, where the program is not another module's own, main.go. Go's caches are private to the
build and deleted after it: a newcomer gets back the room that they took.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from everloop.runtime.jars import cache_folder

_SOURCES = ("go.mod", "go.sum", "main.go")


class BuildError(Exception):
    """A program could not be compiled."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that Go compiles."""

    name: str
    """Of the file, and of its folder in the cache."""
    module: Path
    """The folder with go.mod and go.sum."""
    package: str = "."
    """What is compiled: the folder's own main, or another module's."""
    ldflags: str = "-s -w"
    """For the linker."""
    room: int = 4 * 2**30
    """Bytes that compiling takes on the disk, most of which are given back."""

    def binary(self) -> Path:
        """The compiled program, made first where it is not there yet.

        Raises:
            BuildError: Go is missing, the disk is too full, or the compiler failed.
        """
        folder = cache_folder() / self.name
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.name}-{self._digest()}"
        if target.exists():
            return target
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                self._compile(target)
        return target

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self._go('version')}\n{self.package}\n{self.ldflags}".encode())
        for path in (self.module / name for name in _SOURCES):
            digest.update(path.read_bytes() if path.exists() else b"")
        return digest.hexdigest()[:20]

    def _compile(self, target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as scratch:
            free = shutil.disk_usage(scratch).free
            if free < self.room:
                wanted = f"compiling {self.name} needs {self.room / 2**30:.0f} GiB"
                raise BuildError(f"{scratch} has {free / 2**30:.1f} GiB free: {wanted}")
            environment = os.environ | {
                "CGO_ENABLED": "0",
                "GOFLAGS": "-mod=readonly",
                "GOCACHE": f"{scratch}/cache",
                "GOMODCACHE": f"{scratch}/modules",
            }
            made = Path(scratch) / self.name
            try:
                options = ("-trimpath", "-ldflags", self.ldflags, "-o", str(made))
                self._go("build", *options, self.package, environment=environment)
                made.rename(target)
            finally:
                # Go writes its modules without the right to write, which a plain removal would stumble over.
                self._go("clean", "-modcache", environment=environment)

    def _go(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        try:
            done = subprocess.run(
                ["go", *arguments], cwd=self.module, env=environment, capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise BuildError(f"{self.name} is compiled by Go, and there is no `go` on the PATH") from error
        if done.returncode:
            raise BuildError(f"go {' '.join(arguments)}: {done.stderr[-4000:]}")
        return done.stdout
