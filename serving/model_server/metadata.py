"""GetModelMetadata: which signatures a version has."""

from __future__ import annotations

from typing import Any

from tensorflow_serving.apis import get_model_metadata_pb2

from serving.model_server.bundle import Bundle
from serving.model_server.faults import invalid

SIGNATURE_DEF = "signature_def"


def check_request(request: Any) -> None:
    """Refuse a request that names no model or no known field, before the model is looked up."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid(f"Metadata field {field} is not supported")


def metadata(bundle: Bundle, *, model: str, version: int) -> Any:
    """The signatures, packed as the protocol wants them. The answer names model and version, no signature."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model
    response.model_spec.version.value = version
    response.metadata[SIGNATURE_DEF].Pack(signature_map(bundle))
    return response


def signature_map(bundle: Bundle) -> Any:
    """Every signature of the bundle."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in bundle.signatures.items():
        signatures.signature_def[name].CopyFrom(signature.definition)
    return signatures
