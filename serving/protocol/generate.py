"""Write the protobuf classes of the .proto files beside this one: `python -m serving.protocol.generate` (needs grpcio-tools)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

_LOOSE = "# mypy: disable-error-code=type-arg\n"
"""protoc writes `Mapping` without arguments, which mypy's strict mode refuses."""


def generate(target: Path) -> list[Path]:
    """Write the classes and their type stubs under `target`, in the folders of their package; answer the files."""
    protos = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("*.proto"))
    out = [f"--python_out={target}", f"--pyi_out={target}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *out, *protos], cwd=ROOT, check=True)
    written = sorted((target / HERE.relative_to(ROOT)).glob("*_pb2.py*"))
    for path in written:
        if path.suffix == ".pyi":
            path.write_text(_LOOSE + path.read_text())
    return written


if __name__ == "__main__":
    for written in generate(ROOT):
        print(written.relative_to(ROOT))
