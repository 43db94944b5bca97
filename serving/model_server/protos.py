"""Messages of the protocol that no installed package carries, built at import in a pool of their own.

A pool of its own, because two definitions of one message clash in a shared one as soon as somebody installs a package
that brings them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from serving.model_server.faults import invalid

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "int64": _Field.TYPE_INT64,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "enum32": _Field.TYPE_INT32,
    "bytes": _Field.TYPE_BYTES,
}

_MESSAGES: dict[str, dict[str, str]] = {
    "Int64Value": {"value": "int64"},
    "BoolValue": {"value": "bool"},
    "StringValue": {"value": "string"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
    "HealthCheckRequest": {"service": "string"},
    "HealthCheckResponse": {"status": "enum32"},
    "SerializedExampleList": {"examples": "repeated bytes"},
    "SerializedExampleListWithContext": {"examples": "repeated bytes", "context": "bytes"},
    "SerializedInput": {
        "example_list": "SerializedExampleList",
        "example_list_with_context": "SerializedExampleListWithContext",
    },
}
"""Message → field → type; field numbers count from 1 in this order."""


def _build() -> dict[str, Any]:
    package = "everloop.model_server"
    file = descriptor_pb2.FileDescriptorProto(name="everloop/model_server.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            repeated = kind.startswith("repeated ")
            kind = kind.removeprefix("repeated ")
            entry = message.field.add(name=field, number=number)
            entry.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _KINDS:
                entry.type = _KINDS[kind]
            else:
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in _MESSAGES
    }


_CLASSES = _build()
BatchingParameters: Any = _CLASSES["BatchingParameters"]
MonitoringConfig: Any = _CLASSES["MonitoringConfig"]
SSLConfig: Any = _CLASSES["SSLConfig"]
HealthCheckRequest: Any = _CLASSES["HealthCheckRequest"]
HealthCheckResponse: Any = _CLASSES["HealthCheckResponse"]
SerializedInput: Any = _CLASSES["SerializedInput"]


def read_text(kind: Any, text: str, *, file: str) -> Any:
    """A message of that kind from its text form.

    Raises:
        ServingError: the text is no such message.
    """
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise invalid(f"Invalid protobuf file: '{file}': {error}") from error
