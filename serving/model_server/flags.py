"""The official binary's flags, read by the official binary's rules.

`--name=value` only; a bare `--name` is true for a boolean; numbers are whole and of 32 or 64 bits; a flag that is not
known is reported and passed over. Port 0 means "pick a free one", and `--host` is ours: the official server has neither.
Flags that concern what this server has not (GPUs, TFLite, XLA, the profiler) are accepted and do nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from feedback.errors import UsageError

_THREADS = 4 * (os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Every flag with its default; field names are flag names."""

    port: int = 8500
    """TCP port of gRPC; 0 = a free one (ours)."""
    host: str = ""
    """Address to listen on (ours); empty = all interfaces, as the official server does."""
    grpc_socket_path: str = ""
    """A UNIX socket for gRPC, beside the port."""
    rest_api_port: int = -1
    """TCP port of REST; not given (or 0 given by the official default) = no REST; `--rest_api_port=0` = a free one."""
    rest_api_num_threads: int = _THREADS
    """Threads for REST requests."""
    rest_api_timeout_in_ms: int = 30_000
    """Milliseconds after which a REST request is answered with 504."""
    rest_api_enable_cors_support: bool = False
    """Whether OPTIONS answers carry CORS headers."""
    enable_batching: bool = False
    """Run requests that come at one time in one run."""
    batching_parameters_file: str = ""
    """BatchingParameters as text; needs `enable_batching`."""
    enable_per_model_batching_parameters: bool = False
    """Read `batching_params.pbtxt` in each version's directory."""
    allow_version_labels_for_unavailable_models: bool = False
    """Let a new label point to a version that is not loaded yet."""
    model_config_file: str = ""
    """ModelServerConfig as text; overrides `model_name` and `model_base_path`."""
    model_config_file_poll_wait_seconds: int = 0
    """Seconds between two readings of that file; 0 = read it once."""
    model_name: str = "default"
    """Name of the one model."""
    model_base_path: str = ""
    """Base path of the one model: the folder that holds its version folders."""
    num_load_threads: int = 0
    """Threads that load versions; 0 = the deciding thread."""
    num_unload_threads: int = 0
    """Threads that unload versions; 0 = the deciding thread."""
    max_num_load_retries: int = 5
    """Attempts after the first."""
    load_retry_interval_micros: int = 60_000_000
    """Microseconds between two attempts."""
    file_system_poll_wait_seconds: int = 1
    """Seconds between two looks at the base paths; 0 = once, below 0 = never."""
    flush_filesystem_caches: bool = True
    """Accepted; the page cache is left to the operating system."""
    tensorflow_session_parallelism: int = 0
    """Both kinds of TensorFlow threads at once; 0 = ours: operations run in the request's thread."""
    tensorflow_intra_op_parallelism: int = 0
    """Threads inside one operation; 0 = one."""
    tensorflow_inter_op_parallelism: int = 0
    """Threads that run operations beside one another; 0 = the request's own."""
    enable_graph_optimization: bool = False
    """Let TensorFlow's Grappler rewrite the graphs of a version while it loads (ours; the official server always does)."""
    ssl_config_file: str = ""
    """SSLConfig as text: gRPC over TLS."""
    saved_model_tags: str = "serve"
    """Comma-separated tags of the meta graph to load."""
    grpc_channel_arguments: str = ""
    """`key=value,…` for the gRPC server."""
    grpc_max_threads: int = _THREADS
    """Threads for gRPC requests that are not short."""
    enable_short_requests_on_loop: bool = True
    """Run requests that proved short on the gRPC loop (ours). Switch off for a graph that may wait for another request."""
    enable_model_warmup: bool = True
    """Replay recorded requests before a version answers."""
    num_request_iterations_for_warmup: int = 1
    """How often each recorded request is replayed."""
    version: bool = False
    """Print the version and end."""
    monitoring_config_file: str = ""
    """MonitoringConfig as text: metrics under a path of the REST port."""
    enable_signature_method_name_check: bool = False
    """Refuse Classify and Regress on signatures of another method name."""
    enable_grpc_healthcheck_service: bool = False
    """Serve grpc.health.v1."""
    enable_serialization_as_tensor_content: bool = False
    """Answer Predict with `tensor_content`."""
    platform_config_file: str = ""
    """Accepted, without effect."""
    use_alts_credentials: bool = False
    """Accepted, without effect."""
    per_process_gpu_memory_fraction: float = 0.0
    """Accepted, without effect."""
    remove_unused_fields_from_bundle_metagraph: bool = True
    """Accepted, without effect."""
    prefer_tflite_model: bool = False
    """Accepted, without effect."""
    num_tflite_pools: int = 1
    """Accepted, without effect."""
    num_tflite_interpreters_per_pool: int = 1
    """Accepted, without effect."""
    xla_cpu_compilation_enabled: bool = False
    """Accepted, without effect."""
    enable_profiler: bool = True
    """Accepted, without effect."""
    thread_pool_factory_config_file: str = ""
    """Accepted, without effect."""
    mixed_precision: str = ""
    """Accepted, without effect."""
    skip_initialize_tpu: bool = False
    """Accepted, without effect."""
    use_tfrt: bool = False
    """Accepted, without effect."""

    @property
    def serves_rest(self) -> bool:
        """Whether there is a REST port, other than gRPC's own."""
        return self.rest_api_port >= 0 and (self.rest_api_port != self.port or self.port == 0)


_INT64 = frozenset({"load_retry_interval_micros", "tensorflow_session_parallelism"})
_KINDS: dict[str, Any] = {field.name: field.type for field in fields(Flags)}


def parse(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    """The flags, and the arguments that are not known.

    Raises:
        UsageError: a value does not fit its flag.
    """
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for argument in arguments:
        match = re.fullmatch(r"--([A-Za-z0-9_]+)(?:=(.*))?", argument, re.DOTALL)
        if match is None or match[1] not in _KINDS or (match[2] is None and _KINDS[match[1]] != "bool"):
            unknown.append(argument)
            continue
        values[match[1]] = _value(match[1], match[2])
    return replace(Flags(), **values), unknown


def _value(name: str, text: str | None) -> Any:
    kind = _KINDS[name]
    if kind == "bool":
        return _boolean(name, text)
    assert text is not None
    if kind == "int":
        bits = 64 if name in _INT64 else 32
        if not re.fullmatch(r"\s*[+-]?[0-9]+", text) or not -(2 ** (bits - 1)) <= int(text) < 2 ** (bits - 1):
            raise _refused(text, name, f"a whole number of {bits} bits")
        return int(text)
    if kind == "float":
        try:
            return float(text)
        except ValueError as error:
            raise _refused(text, name, "a number") from error
    return text


def _boolean(name: str, text: str | None) -> bool:
    if text is None or text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise _refused(text, name, "true or false")


def _refused(text: str, name: str, allowed: str) -> UsageError:
    return UsageError(f"Couldn't interpret value {text} for flag {name}: it must be {allowed}.")


def usage() -> str:
    """Every flag with its type and default."""
    lines = [f"\t--{field.name}={field.default!s:<24}\t{field.type}" for field in fields(Flags)]
    return "usage: model-server\nFlags:\n" + "\n".join(lines)
