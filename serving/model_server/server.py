"""The whole server inside one event loop: made from flags, started, stopped. What main runs, and tests beside themselves."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import grpc

from serving.model_server import config as configs
from serving.model_server import rest, rpc
from serving.model_server.batches import BatchSettings
from serving.model_server.core import Core, CoreSettings
from serving.model_server.dispatch import Dispatch
from serving.model_server.faults import ServingError, invalid
from serving.model_server.flags import Flags
from serving.model_server.lifecycle import LifecycleSettings
from serving.model_server.loader import Loader, LoaderSettings, read_batching
from serving.model_server.metrics import Metrics
from serving.model_server.protos import MonitoringConfig, SSLConfig, read_text
from serving.model_server.service import Service, ServiceSettings
from serving.model_server.session import Parallelism

log = logging.getLogger("everloop.model_server")


class Server:
    """Models, ports and threads of one model server."""

    def __init__(self, flags: Flags) -> None:
        """Open nothing yet.

        Raises:
            ServingError: flags contradict each other, or a file they name is damaged.
        """
        self._flags = flags
        self.service = build(flags, Metrics())
        self.grpc_port = 0
        self.rest_port: int | None = None
        self._dispatch = Dispatch(
            flags.grpc_max_threads, inline=flags.enable_short_requests_on_loop and not flags.enable_batching
        )
        self._grpc: Any = None
        self.rest: rest.Running | None = None

    async def start(self) -> None:
        """Load the first models, then open the ports.

        Raises:
            ServingError: the configuration is wrong or a model failed for good.
            OSError: a port or a file cannot be opened.
        """
        flags, core = self._flags, self.service.core
        await asyncio.to_thread(core.start, read_config(flags))
        _watch_config_file(flags, core)
        addresses = [f"{flags.host or '0.0.0.0'}:{flags.port}"]
        if flags.grpc_socket_path:
            addresses.append(f"unix:{flags.grpc_socket_path}")
        self._grpc, ports = await rpc.start(
            rpc.Rpc(self.service, self._dispatch),
            addresses,
            credentials=_credentials(flags),
            health=flags.enable_grpc_healthcheck_service,
            channel_arguments=_channel_arguments(flags.grpc_channel_arguments),
        )
        self.grpc_port = ports[0]
        if flags.serves_rest:
            self.rest = await rest.start(self.service, rest_settings(flags))
            self.rest_port = self.rest.port
        elif flags.rest_api_port > 0:
            log.error(
                "--rest_api_port cannot be same as --port. Please use a different port for HTTP/REST API. "
                "Skipped exporting HTTP/REST API."
            )

    async def wait(self) -> None:
        """Serve until `stop` or the end of the process."""
        await self._grpc.wait_for_termination()

    async def stop(self) -> None:
        """Close the ports and end the threads. The process's end needs no such thing."""
        self.service.core.stop()
        if self.rest is not None:
            await self.rest.stop()
        if self._grpc is not None:
            await self._grpc.stop(0)
        self._dispatch.close()


def build(flags: Flags, metrics: Metrics) -> Service:
    """The service that the flags describe, not started.

    Raises:
        ServingError: flags contradict each other, or a file they name is damaged.
    """
    loader = Loader(
        LoaderSettings(
            tags=tuple(flags.saved_model_tags.split(",")),
            parallelism=_parallelism(flags),
            optimize=flags.enable_graph_optimization,
            warmup=flags.enable_model_warmup,
            warmup_iterations=flags.num_request_iterations_for_warmup,
            batching=_batching(flags),
            per_model_batching=flags.enable_per_model_batching_parameters,
        ),
        metrics,
    )
    core = Core(
        loader,
        CoreSettings(
            poll_wait_s=flags.file_system_poll_wait_seconds,
            allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        ),
        LifecycleSettings(
            load_threads=flags.num_load_threads,
            unload_threads=flags.num_unload_threads,
            max_retries=flags.max_num_load_retries,
            retry_interval_s=flags.load_retry_interval_micros / 1e6,
        ),
    )
    settings = ServiceSettings(
        as_content=flags.enable_serialization_as_tensor_content,
        check_method=flags.enable_signature_method_name_check,
    )
    return Service(core, metrics, settings)


def _batching(flags: Flags) -> BatchSettings | None:
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise invalid("--batching_parameters_file is set without setting --enable_batching to true.")
        return None
    if not flags.batching_parameters_file:
        return BatchSettings()
    return read_batching(Path(flags.batching_parameters_file).read_text(), file=flags.batching_parameters_file)


def _parallelism(flags: Flags) -> Parallelism:
    both = flags.tensorflow_session_parallelism
    return Parallelism(
        inter_op=flags.tensorflow_inter_op_parallelism or both or Parallelism.inter_op,
        intra_op=flags.tensorflow_intra_op_parallelism or both or Parallelism.intra_op,
    )


def read_config(flags: Flags) -> Any:
    """The first configuration: the file's, or the one model of the flags.

    Raises:
        ServingError: the file is no ModelServerConfig.
        OSError: it cannot be read.
    """
    if flags.model_config_file:
        return configs.parse_text(Path(flags.model_config_file).read_text(), file=flags.model_config_file)
    return configs.single_model(flags.model_name, flags.model_base_path)


def _watch_config_file(flags: Flags, core: Core) -> None:
    period_s = flags.model_config_file_poll_wait_seconds
    if not flags.model_config_file or period_s <= 0:
        return

    def watch() -> None:
        known = read_config(flags)
        while not core.stopped.wait(period_s):
            try:
                found = read_config(flags)
                if found != known:
                    core.reload(found)
                    known = found
            except (ServingError, OSError) as error:
                log.error("Reading the model config file again failed: %s", error)

    threading.Thread(target=watch, name="config-file", daemon=True).start()


def _credentials(flags: Flags) -> Any:
    if not flags.ssl_config_file:
        return None
    ssl = read_text(SSLConfig, Path(flags.ssl_config_file).read_text(), file=flags.ssl_config_file)
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    arguments: list[tuple[str, int | str]] = []
    for pair in filter(None, text.split(",")):
        key, _, value = pair.partition("=")
        arguments.append((key, int(value) if value.lstrip("+-").isdigit() else value))
    return arguments


def rest_settings(flags: Flags) -> rest.RestSettings:
    """What the flags say of the REST port."""
    metrics_path = ""
    if flags.monitoring_config_file:
        monitoring = read_text(
            MonitoringConfig, Path(flags.monitoring_config_file).read_text(), file=flags.monitoring_config_file
        ).prometheus_config
        metrics_path = (monitoring.path or rest.METRICS_PATH) if monitoring.enable else ""
    return rest.RestSettings(
        host=flags.host,
        port=flags.rest_api_port,
        threads=flags.rest_api_num_threads,
        timeout_s=flags.rest_api_timeout_in_ms / 1000,
        cors=flags.rest_api_enable_cors_support,
        metrics_path=metrics_path,
    )
