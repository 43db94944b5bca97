"""Compile the control plane once: `python -m tests.k8s.controlplane.build` prints where it is. The first time takes ten minutes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.gobuild import BuildError, Program

MODULE = Path(__file__).parent
_VERSION = "k8s.io/component-base/version"


def release() -> str:
    """The Kubernetes release that go.mod names, as v1.2.3."""
    found = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (MODULE / "go.mod").read_text())
    if found is None:
        raise BuildError(f"{MODULE / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def _flags() -> str:
    version = release()
    named = {"gitVersion": version, "gitMajor": "1", "gitMinor": version.split(".")[1]}
    return " ".join(["-s", "-w", *(f"-X {_VERSION}.{name}={value}" for name, value in named.items())])


CONTROLPLANE = Program(name="controlplane", module=MODULE, ldflags=_flags(), room=6 * 2**30)

if __name__ == "__main__":
    try:
        print(CONTROLPLANE.binary())
    except BuildError as failure:
        sys.exit(str(failure))
