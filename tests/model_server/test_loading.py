"""What can be loaded: models of TensorFlow 2, tables, files that a model brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.model_server.bundle import Bundle
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
    from serving.model_server.bundle import Parallelism

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
    assert bundles[0]._session.graph is bundles[1]._session.graph

    def ask(bundle: Bundle) -> float:
        return float(bundle.run(("x:0",), [np.zeros(1, np.float32)], ("y:0",))[0][0])

    first, second = map(ask, bundles)
    assert first != second
    bundles[0].close()
    assert ask(bundles[1]) == second
    bundles[1].close()


def test_grappler_rewrites_the_graphs_where_that_is_wanted(shelf: Shelf) -> None:
    bundle = Bundle(str(shelf.base("h2") / "1"), optimize=True)
    (y,) = bundle.run(("x:0",), [np.array([2.0], np.float32)], ("y:0",))
    assert y.tolist() == [3.0]
    bundle.close()
