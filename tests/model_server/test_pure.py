"""What needs no model: names, policies, transitions, flags, tensors, JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from feedback.errors import UsageError
from serving.model_server import document, render
from serving.model_server.faults import ServingError
from serving.model_server.flags import Flags, parse
from serving.model_server.metrics import Metrics
from serving.model_server.policy import All, Latest, Policy, Specific, aspired
from serving.model_server.storage import find_versions, parse_version
from serving.model_server.tensors import TensorError, decode, encode
from serving.model_server.transition import Action, Phase, View, choose, next_action


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("00000123", 123),
        ("+5", 5),
        (" 7 ", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("v1", None),
        ("1.0", None),
        ("0.1", None),
        ("1_tmp", None),
        (".tmp-1", None),
        ("tmp.1", None),
        ("", None),
        ("١", None),
    ],
)
def test_which_names_are_versions(name: str, version: int | None) -> None:  # 7.1
    assert parse_version(name) == version


def test_of_two_names_for_one_number_the_last_counts() -> None:  # 7.1
    assert find_versions(["1", "001", "x", "2"]) == {1: "1", 2: "2"}


@given(present=st.sets(st.integers(0, 50)), count=st.integers(0, 5))
def test_policies_choose_among_what_is_there(present: set[int], count: int) -> None:
    assert set(aspired(present, All())) == present
    assert aspired(present, Latest(count)) == tuple(sorted(present, reverse=True)[: max(count, 1)])
    policies: list[Policy] = [Specific((1, 2, 99)), Specific()]
    for policy in policies:
        assert set(aspired(present, policy)) <= present & {1, 2}


def _view(version: int, phase: Phase, *, aspired: bool) -> View:
    return View(version=version, phase=phase, aspired=aspired)


@pytest.mark.parametrize(
    ("views", "action"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([(1, Phase.NEW, True)], ("load", 1), id="first"),
        pytest.param([(1, Phase.NEW, True), (2, Phase.NEW, True)], ("load", 2), id="highest-first"),
        pytest.param([(1, Phase.READY, False), (2, Phase.NEW, True)], ("load", 2), id="old-stays-while-new-loads"),
        pytest.param([(1, Phase.READY, False), (2, Phase.LOADING, True)], None, id="T-03"),
        pytest.param([(1, Phase.READY, False), (2, Phase.READY, True)], ("unload", 1), id="then-it-goes"),
        pytest.param([(1, Phase.READY, False), (2, Phase.FAILED, True)], None, id="T-08"),
        pytest.param([(1, Phase.READY, False), (2, Phase.READY, False)], ("unload", 1), id="V-07"),
        pytest.param(
            [(1, Phase.READY, False), (2, Phase.READY, False), (3, Phase.NEW, True)], ("unload", 1), id="one-is-enough"
        ),
        pytest.param([(1, Phase.FAILED, True)], None, id="T-10"),
    ],
)
def test_the_next_action(views: list[tuple[int, Phase, bool]], action: tuple[str, int] | None) -> None:
    found = next_action("m", [_view(version, phase, aspired=wanted) for version, phase, wanted in views])
    expected = Action(model="m", version=action[1], load=action[0] == "load") if action else None
    assert found == expected


def test_unloading_goes_before_loading_over_all_models() -> None:
    models = {
        "a": [_view(1, Phase.NEW, aspired=True)],
        "b": [_view(1, Phase.READY, aspired=False)],
    }
    assert choose(models) == Action(model="b", version=1, load=False)


@given(st.lists(st.tuples(st.sets(st.integers(1, 4), min_size=1, max_size=2), st.booleans()), min_size=1, max_size=12))
def test_a_model_that_serves_never_stops_while_something_is_wanted(steps: list[tuple[set[int], bool]]) -> None:
    """Any order of new wishes, loads that succeed or fail: once a version is ready, one always is."""
    phases: dict[int, Phase] = {1: Phase.READY}
    wanted = {1}
    for wish, succeeds in steps:
        wanted = wish
        for version in wish:
            phases.setdefault(version, Phase.NEW)
        for _ in range(4):
            views = [_view(version, phase, aspired=version in wanted) for version, phase in phases.items()]
            action = next_action("m", views)
            if action is None:
                break
            if action.load:
                phases[action.version] = Phase.READY if succeeds else Phase.FAILED
            else:
                del phases[action.version]
            assert Phase.READY in phases.values()


class TestFlags:
    """The official binary's flags."""

    def test_values_are_read(self) -> None:
        flags, unknown = parse(
            ["--port=1", "--enable_batching", "--enable_model_warmup=false", "--model_name=a=b", "--nope", "--x=1", "y"]
        )
        assert (flags.port, flags.enable_batching, flags.enable_model_warmup, flags.model_name) == (
            1,
            True,
            False,
            "a=b",
        )
        assert unknown == ["--nope", "--x=1", "y"]

    def test_defaults_are_the_official_ones(self) -> None:
        flags = Flags()
        assert (flags.port, flags.max_num_load_retries, flags.load_retry_interval_micros) == (8500, 5, 60_000_000)
        assert (flags.num_load_threads, flags.file_system_poll_wait_seconds, flags.model_name) == (0, 1, "default")
        assert not flags.serves_rest

    @pytest.mark.parametrize(
        "argument",
        [
            "--file_system_poll_wait_seconds=0.5",
            "--port=abc",
            "--port=",
            "--port=2147483648",
            "--enable_batching=maybe",
            "--per_process_gpu_memory_fraction=x",
        ],
    )
    def test_a_value_that_does_not_fit_is_refused(self, argument: str) -> None:  # 7.3
        with pytest.raises(UsageError, match="Couldn't interpret value"):
            parse([argument])

    def test_one_port_for_both_means_no_rest(self) -> None:
        assert not parse(["--port=5", "--rest_api_port=5"])[0].serves_rest
        assert parse(["--port=5", "--rest_api_port=6"])[0].serves_rest


class TestTensors:
    """TensorProto and arrays."""

    @pytest.mark.parametrize("as_content", [False, True])
    @pytest.mark.parametrize(
        "kind",
        [
            "float32",
            "float64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "uint16",
            "int64",
            "uint32",
            "uint64",
            "bool",
            "float16",
            "bfloat16",
            "complex64",
            "complex128",
        ],
    )
    def test_every_type_comes_back(self, kind: str, as_content: bool) -> None:
        array = np.array([[0, 1], [1, 0]]).astype(tf.dtypes.as_dtype(kind).as_numpy_dtype)
        proto = encode(array, as_content=as_content)
        assert proto.tensor_content == (array.tobytes() if as_content else b"")
        back = decode(proto)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
        np.testing.assert_array_equal(tf.make_ndarray(proto), array)

    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3)])
    def test_every_shape_comes_back(self, shape: tuple[int, ...]) -> None:
        for array in (np.ones(shape, np.float32), np.full(shape, b"x", dtype=object)):
            assert decode(encode(array)).shape == shape

    @given(st.lists(st.binary(max_size=300), max_size=5))
    def test_strings_come_back_also_from_content(self, values: list[bytes]) -> None:
        array = np.empty(len(values), dtype=object)
        array[:] = values
        assert decode(encode(array)).tolist() == values
        proto = tf.compat.v1.make_tensor_proto(values, tf.string, [len(values)])
        content = b"".join(_varint(len(value)) for value in values) + b"".join(values)
        del proto.string_val[:]
        proto.tensor_content = content
        assert decode(proto).tolist() == (values if content else [b""] * len(values))

    def test_too_few_values_repeat_the_last_and_too_many_are_dropped(self) -> None:
        proto = tf.make_tensor_proto([1, 2], tf.int32)
        proto.tensor_content = b""
        proto.int_val[:] = [1, 2]
        proto.tensor_shape.dim[0].size = 4
        assert decode(proto).tolist() == [1, 2, 2, 2]
        proto.tensor_shape.dim[0].size = 1
        assert decode(proto).tolist() == [1]

    def test_what_is_no_tensor_is_refused(self) -> None:
        for change in ("dtype", "shape", "rank", "content"):
            proto = encode(np.ones(2, np.float32))
            match change:
                case "dtype":
                    proto.dtype = 0
                case "shape":
                    proto.tensor_shape.dim[0].size = -1
                case "rank":
                    proto.tensor_shape.unknown_rank = True
                case "content":
                    proto.tensor_content = b"123"
            with pytest.raises(TensorError):
                decode(proto)


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class TestDocuments:
    """JSON as RapidJSON reads it."""

    @given(st.dictionaries(st.text(), JSON_VALUES, max_size=4))
    def test_both_parsers_read_what_python_writes(self, value: dict[str, Any]) -> None:
        text = json.dumps(value)
        assert document.parse(text.encode()) == value
        assert document._Parser(text).parse() == value

    @given(st.text(alphabet='{}[]:,"\\ue0123.-+ntfalsrINy \n', max_size=30))
    def test_no_text_breaks_the_slow_parser(self, text: str) -> None:
        try:
            document._Parser(text).parse()
        except ServingError as error:
            assert error.message.startswith("JSON Parse error: ")

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ('{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
            ("{1: 2}", "Missing a name for object member. at offset: 1"),
            ('{"a": 1 "b": 2}', "Missing a comma or } after an object member. at offset: 8"),
            ("[1 2]", "Missing a comma or ] after an array element. at offset: 3"),
            ("[tru]", "Invalid value. at offset: 4"),
            ("[1.]", "Miss fraction part in number. at offset: 3"),
            ("[1e]", "Miss exponent in number. at offset: 3"),
            ('["a]', "Missing a closing quotation mark in string. at offset: 1"),
            ('["\\x"]', "Invalid escape character in string. at offset: 2"),
            ('["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
            ('["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
            ("[,]", "Invalid value. at offset: 1"),
        ],
    )
    def test_errors_have_these_words(self, text: str, error: str) -> None:
        with pytest.raises(ServingError) as caught:
            document._Parser(text).parse()
        assert caught.value.message == f"JSON Parse error: {error}"

    @given(st.floats(width=64))
    def test_numbers_are_written_so_that_they_come_back(self, value: float) -> None:
        text = render.decimal(value)
        back = float(text.replace("Infinity", "inf"))
        assert back == value or (math.isnan(back) and math.isnan(value))


def test_metrics_have_tensorflow_servings_names() -> None:
    metrics = Metrics()
    metrics.request_count.add('a"b', "OK")
    metrics.request_latency.observe(18.0, "m", "Predict", "GRPC")
    lines = metrics.text().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="a\\"b",status="OK"} 1' in lines
    name = ':tensorflow:serving:request_latency_bucket{model_name="m",API="Predict",entrypoint="GRPC",le='
    assert name + '"10"} 0' in lines
    assert name + '"18"} 1' in lines
    assert name + '"+Inf"} 1' in lines
    assert not any(line.startswith("# HELP") for line in lines)
