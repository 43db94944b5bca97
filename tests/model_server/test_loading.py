"""What can be loaded: models of TensorFlow 2, tables, files that a model brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.model_server import session as session_module
from serving.model_server.bundle import Bundle
from serving.model_server.faults import ServingError
from tests.model_server.conftest import FAST, Served, Shelf, write_config
from tests.model_server.models import save, signature, tf1


class Vocabulary(tf.Module):
    """Words to numbers by a file, times a weight."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = tf.saved_model.Asset(str(path))
        initializer = tf.lookup.TextFileInitializer(
            self.file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)
        self.weight = tf.Variable(10, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def __call__(self, words: Any) -> Any:
        """Number each word."""
        return {"numbers": self.table.lookup(words) * self.weight}


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base path of a TensorFlow 2 model with an asset, a table and a variable."""
    root = tmp_path_factory.mktemp("second")
    (root / "words").write_text("a\nb\nc\n")
    module = Vocabulary(root / "words")
    tf.saved_model.save(module, str(root / "v" / "1"), signatures=module.__call__.get_concrete_function())
    (root / "words").unlink()  # the copy inside the model must do
    return root / "v"


def test_a_model_of_tensorflow_2_answers_and_lists_its_initialisation(second: Path, tmp_path: Path) -> None:  # M-04
    config = write_config(tmp_path / "c", {"name": "v", "base_path": second})
    with Served(replace(FAST, model_config_file=config)) as server:
        answer = server.predict("v", words=np.array(["b", "c", "x"], dtype=object))
        assert list(answer.outputs["numbers"].int64_val) == [10, 20, -10]
        metadata = server.http("GET", "/v1/models/v/metadata").json["metadata"]["signature_def"]["signature_def"]
        assert set(metadata) == {"serving_default", "__saved_model_init_op"}


def _with_table() -> Any:
    keys, values = tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)
    tf1.tables_initializer(name="init_tables")
    x = tf1.placeholder(tf.string, [None], "x")
    return {"serving_default": signature({"x": x}, {"y": table.lookup(x)})}


def test_a_main_operation_initialises_tables(tmp_path: Path) -> None:
    bundle = Bundle(str(save(tmp_path / "1", _with_table, init="init_tables")))
    found = bundle.signatures["serving_default"]
    (y,) = bundle.run(("x:0",), [np.array([b"b", b"z"], dtype=object)], (found.outputs["y"],))
    assert y.tolist() == [2, -1]


def test_a_model_without_variables_needs_none(shelf: Shelf) -> None:
    path = shelf.base("types") / "1"
    assert not (path / "variables" / "variables.index").exists()
    assert Bundle(str(path)).signatures


@pytest.mark.parametrize(
    ("parallelism", "answer"), [((-1, 1), 3.0), ((0, 0), 3.0), ((2, 2), 3.0)], ids=["caller", "cores", "own-pool"]
)
def test_any_number_of_threads_will_do(shelf: Shelf, parallelism: tuple[int, int], answer: float) -> None:
    from serving.model_server.session import Parallelism

    inter_op, intra_op = parallelism
    bundle = Bundle(str(shelf.base("h2") / "1"), parallelism=Parallelism(inter_op=inter_op, intra_op=intra_op))
    (y,) = bundle.run(("x:0",), [np.array([2.0], np.float32)], ("y:0",))
    assert y.tolist() == [answer]
    bundle.close()


def _with_chance() -> Any:
    number = tf1.get_variable("number", [], initializer=tf1.random_uniform_initializer(), use_resource=True)
    x = tf1.placeholder(tf.float32, [None], "x")
    return {"serving_default": signature({"x": x}, {"y": tf.add(x, number, "y")})}


def test_versions_with_the_same_graph_share_it_and_nothing_else(tmp_path: Path) -> None:
    bundles = [Bundle(str(save(tmp_path / name, _with_chance))) for name in ("1", "2")]
    assert bundles[0]._session is not bundles[1]._session
    assert bundles[0]._session._graph is bundles[1]._session._graph

    def ask(bundle: Bundle) -> float:
        return float(bundle.run(("x:0",), [np.zeros(1, np.float32)], ("y:0",))[0][0])

    first, second = map(ask, bundles)
    assert first != second
    bundles[0].close()
    assert ask(bundles[1]) == second
    bundles[1].close()


def _with_writes(number: float) -> Callable[[], Any]:
    """Keeps a number, which is saved, and words, which are not; `write` doubles the one and adds to the others."""

    def build() -> Any:
        held = tf1.get_variable("held", shape=[], initializer=tf1.constant_initializer(number), use_resource=True)
        table = tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="words")
        x = tf1.placeholder(tf.string, [None], "x")
        y = tf.raw_ops.LookupTableFindV2(table_handle=table, keys=x, default_value=tf.constant(-1, tf.int64))
        one = tf.ones_like(x, tf.int64)
        with tf.control_dependencies([tf.raw_ops.LookupTableInsertV2(table_handle=table, keys=x, values=one)]):
            doubled = held.assign(held * 2).read_value()
        return {
            "serving_default": signature({"x": x}, {"held": held.read_value(), "y": y}),
            "write": signature({"x": x}, {"held": doubled}),
        }

    return build


def _ask(bundle: Bundle, name: str = "serving_default") -> list[Any]:
    found = bundle.signatures[name]
    answers = bundle.run(tuple(found.inputs.values()), [np.array([b"a"], dtype=object)], tuple(found.outputs.values()))
    return [answer.tolist() for answer in answers]


def test_a_version_takes_over_the_session_of_one_that_went_and_nothing_that_was_in_it(tmp_path: Path) -> None:
    # The same graph: the number is what was saved, not what it begins with.
    paths = [save(tmp_path / name, _with_writes(1.0)) for name in ("1", "2")]
    first = Bundle(str(paths[0]))
    session = first._session
    assert (_ask(first, "write"), _ask(first)) == ([2.0], [2.0, [1]])
    beside = Bundle(str(paths[1]))
    assert beside._session is not session
    assert _ask(beside) == [1.0, [-1]]
    first.close()
    third = Bundle(str(paths[1]))
    assert third._session is session
    assert _ask(third) == [1.0, [-1]]
    assert (_ask(third, "write"), _ask(beside)) == ([2.0], [1.0, [-1]])
    beside.close()
    third.close()


def test_a_session_that_waits_for_its_next_version_holds_nothing(tmp_path: Path) -> None:
    bundle = Bundle(str(save(tmp_path / "1", _with_writes(3.0))))
    read = bundle._session.call((("x:0",), (bundle.signatures["serving_default"].outputs["held"],)))
    words = [np.array([b"a"], dtype=object)]
    assert read(*words) == [3.0]
    bundle.close()
    with pytest.raises(tf.errors.FailedPreconditionError, match="held"):
        read(*words)


def test_a_version_that_cannot_be_restored_leaves_no_session_behind(tmp_path: Path) -> None:
    good, bad = (save(tmp_path / name, _with_writes(5.0)) for name in ("1", "2"))
    (shard,) = (bad / "variables").glob("variables.data*")
    shard.write_bytes(b"")
    bundle = Bundle(str(good))
    session = bundle._session
    bundle.close()
    with pytest.raises(ServingError):
        Bundle(str(bad))
    again = Bundle(str(good))
    assert again._session is not session
    assert _ask(again) == [5.0, [-1]]
    again.close()


def test_what_keeps_a_state_of_its_own_gets_a_session_of_its_own(tmp_path: Path) -> None:
    path = str(save(tmp_path / "1", _with_chance))
    bundle = Bundle(path)
    session = bundle._session
    bundle.close()
    again = Bundle(path)
    assert again._session is not session
    again.close()


def test_no_more_emptied_sessions_are_kept_than_are_wanted(tmp_path: Path) -> None:
    for number in range(session_module.SPARES + 2):
        Bundle(str(save(tmp_path / str(number), _with_writes(100.0 + number)))).close()
    assert len(session_module._spares) == session_module.SPARES


def test_grappler_rewrites_the_graphs_where_that_is_wanted(shelf: Shelf) -> None:
    bundle = Bundle(str(shelf.base("h2") / "1"), optimize=True)
    (y,) = bundle.run(("x:0",), [np.array([2.0], np.float32)], ("y:0",))
    assert y.tolist() == [3.0]
    bundle.close()
