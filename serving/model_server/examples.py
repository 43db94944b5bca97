"""Examples in: what Classify, Regress and MultiInference have in common before the graph runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from serving.model_server.faults import invalid
from serving.model_server.protos import SerializedInput
from serving.model_server.tensors import Array


def serialized_examples(request_input: Any) -> Array:
    """The examples of an Input as a vector of bytes; a context is prepended to each, which merges the two messages.

    Examples are never parsed here: the request's own bytes are cut, the graph parses them.

    Raises:
        ServingError: there are none.
    """
    cut = SerializedInput.FromString(request_input.SerializeToString())
    if cut.HasField("example_list_with_context"):
        context = cut.example_list_with_context.context
        values = [context + example for example in cut.example_list_with_context.examples]
    else:
        values = list(cut.example_list.examples)
    if not values:
        raise invalid("Input is empty.")
    return bytes_vector(values)


def bytes_vector(values: Iterable[bytes]) -> Array:
    """A one-dimensional string tensor."""
    listed = list(values)
    vector = np.empty(len(listed), dtype=object)
    vector[:] = listed
    return vector


def shape_text(array: Array) -> str:
    """A shape as TensorFlow prints it: [2,3]."""
    return f"[{','.join(str(size) for size in array.shape)}]"
