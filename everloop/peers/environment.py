"""The peers' virtual environments: one per bench, made once in the user's cache folder from a lock with hashes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from everloop.runtime.jars import cache_folder
from feedback.errors import UnavailableError

HERE = Path(__file__).parent


def python(bench: str) -> Path:
    """Return the interpreter of a bench's peers, with exactly the locked packages.

    Raises:
        UnavailableError: the packages cannot be installed; says what pip said last.
    """
    lock = HERE / bench / "requirements.lock"
    name = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_folder() / "peers" / f"{bench}-{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{bench}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _create(folder, lock)
    return folder / "bin" / "python"


def _create(folder: Path, lock: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _checked([sys.executable, "-m", "venv", str(folder)])
    # The lock is whole, and tried: pip adds nothing to it, and does not ask what a package says of its needs.
    options = ["--quiet", "--require-hashes", "--no-deps", "--ignore-requires-python"]
    _checked([str(folder / "bin" / "pip"), "install", *options, "-r", str(lock)])
    (folder / "ready").touch()


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise UnavailableError(f"peers: {' '.join(command[:4])} … failed: {''.join(last)}")


def run(bench: str, script: str, *arguments: str, timeout_s: float = 600) -> dict[str, Any]:
    """Run one peer's script and return the JSON object that it prints on its last line.

    Raises:
        UnavailableError: the environment cannot be made, or the script fails or takes longer than `timeout_s`.
    """
    command = [str(python(bench)), str(HERE / bench / script), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"peers: {script} took longer than {timeout_s:g} s") from error
    if done.returncode:
        raise UnavailableError(f"peers: {script} failed: {done.stderr.strip()[-500:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def version(bench: str, package: str) -> str:
    """The version of a package that a bench's lock pins."""
    lines = (HERE / bench / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = next(line for line in lines if line.startswith(f"{package}=="))
    return pinned.split("==")[1].split()[0].rstrip("\\")
