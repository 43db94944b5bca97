"""Compile the control plane once: `python -m tests.k8s.controlplane.build` prints where it is.

The first time takes ten minutes and 5 GB of room, which is given back; then it is a file in the user's cache, under a name made
of everything that it depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from everloop.runtime.jars import cache_folder

MODULE = Path(__file__).parent
_SOURCES = ("go.mod", "go.sum", "main.go")
_VERSION_FLAG = "k8s.io/component-base/version"
_ROOM = 6 * 2**30


class BuildError(Exception):
    """The control plane could not be compiled."""


def binary() -> Path:
    """The compiled control plane, made first where it is not there yet.

    Raises:
        BuildError: Go is missing, the disk is too full, or the compiler failed.
    """
    folder = cache_folder() / "controlplane"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _name()
    if target.exists():
        return target
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _compile(target)
    return target


def release() -> str:
    """The Kubernetes release that go.mod names, as v1.2.3."""
    found = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (MODULE / "go.mod").read_text())
    if found is None:
        raise BuildError(f"{MODULE / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def _name() -> str:
    digest = hashlib.sha256(_go("version").encode())
    for name in _SOURCES:
        digest.update((MODULE / name).read_bytes())
    return f"controlplane-{digest.hexdigest()[:20]}"


def _compile(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as scratch:
        free = shutil.disk_usage(scratch).free
        if free < _ROOM:
            raise BuildError(f"{scratch} has {free / 2**30:.1f} GiB free: compiling needs {_ROOM / 2**30:.0f} GiB")
        environment = os.environ | {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly",
            "GOCACHE": f"{scratch}/cache",
            "GOMODCACHE": f"{scratch}/modules",
        }
        made = Path(scratch) / "controlplane"
        try:
            _go("build", "-trimpath", "-ldflags", _flags(), "-o", str(made), ".", environment=environment)
            made.rename(target)
        finally:
            # Go writes its modules without the right to write, which a plain removal would stumble over.
            _go("clean", "-modcache", environment=environment)


def _flags() -> str:
    version = release()
    _, minor, _ = version.split(".")
    named = {"gitVersion": version, "gitMajor": "1", "gitMinor": minor}
    return " ".join(["-s", "-w", *(f"-X {_VERSION_FLAG}.{name}={value}" for name, value in named.items())])


def _go(*arguments: str, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            ["go", *arguments], cwd=MODULE, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BuildError("the control plane is compiled by Go, and there is no `go` on the PATH") from error
    if done.returncode:
        raise BuildError(f"go {' '.join(arguments)}: {done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(binary())
    except BuildError as failure:
        sys.exit(str(failure))
