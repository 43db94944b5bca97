"""The sums behind the metrics, against the textbook."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.settled import ROW, SettledFile, auc_gain, read_settled
from trainer.tally import Tally, exact_auc, log_losses


def scored(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(-1.0, 1.5, n)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return scores, random.random(n) < scores


def test_figures_agree_with_their_definitions() -> None:
    scores, labels = scored(200_000)
    tally = Tally(4096)
    tally.add(scores, labels)
    found = tally.figures()
    rate = labels.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert found["auc"] == pytest.approx(exact_auc(scores, labels), abs=1e-5)
    assert found["log_loss"] == pytest.approx(log_losses(scores, labels).mean(), abs=1e-6)
    assert found["normalised_entropy"] == pytest.approx(log_losses(scores, labels).mean() / entropy, abs=1e-5)
    assert found["calibration"] == pytest.approx(scores.sum() / labels.sum(), abs=1e-4)


def test_exact_auc_counts_pairs_and_ties_half() -> None:
    scores, labels = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    assert exact_auc(scores, labels) == pytest.approx((2 + 1.5) / 4)


def test_the_order_of_the_rows_changes_nothing() -> None:
    scores, labels = scored(5_000)
    order = np.random.default_rng(2).permutation(5_000)
    whole, pieces = Tally(), Tally()
    whole.add(scores, labels)
    for part in np.array_split(order, 17):
        other = Tally()
        other.add(scores[part], labels[part])
        pieces.merge(other)
    assert whole.state() == pieces.state()
    assert Tally.restored(whole.state()).figures() == whole.figures()


def test_a_model_that_knows_more_gains_over_readers_and_one_that_does_not_does_not() -> None:
    scores, labels = scored(20_000)
    rows = np.zeros(20_000, ROW)
    rows["user"] = np.random.default_rng(3).integers(0, 500, 20_000)
    rows["label"], rows["score"], rows["baseline"] = labels, scores, labels.mean()
    better = auc_gain(rows, draws=100)
    assert better.baseline == pytest.approx(0.5)
    assert 0 < better.low < better.auc - better.baseline < better.high
    rows["baseline"] = scores
    assert auc_gain(rows, draws=50).low == 0.0


def test_settled_rows_are_cut_back_across_pieces_and_the_oldest_piece_goes(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    file = SettledFile(folder, keep_rows=10)
    rows = np.zeros(37, ROW)
    rows["time"] = np.arange(37)
    file.append(rows[:25])
    file.cut(18)
    file.append(rows[18:37])
    file.close()
    assert read_settled(folder)["time"].tolist() == list(range(20, 37))
