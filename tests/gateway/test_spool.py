"""The write-ahead log: what was appended is read, whatever happened in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.errors import BufferFullError, EventError, UsageError
from serving.gateway.segments import frame, frames, segment_bases, segment_path
from serving.gateway.spool import MAX_RECORD, Spool

BIG = 10_000_000


def open_spool(folder: Path, *, max_bytes: int = BIG, segment_bytes: int = BIG) -> Spool:
    return Spool(folder, max_bytes=max_bytes, segment_bytes=segment_bytes)


def contents(spool: Spool, limit: int = 100) -> list[bytes]:
    found: list[bytes] = []
    position = spool.acknowledged
    while True:
        records, position = spool.read(position, limit)
        if not records:
            return found
        found += [record.value for record in records]


rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 999), st.binary(max_size=20), st.binary(max_size=60)), max_size=20
)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 2000), st.binary(max_size=9))
def test_frames_come_back_whole_up_to_where_the_bytes_were_cut(
    written: list[tuple[int, int, bytes, bytes]], cut: int, tail: bytes
) -> None:
    data = b"".join(frame(*row) for row in written)
    assert [(r.topic, r.partition, r.key, r.value) for r in frames(data, 0)] == written
    whole = list(frames(data[:cut], 7))
    assert [(r.topic, r.partition, r.key, r.value) for r in whole] == written[: len(whole)]
    assert all(record.end <= 7 + cut for record in whole)
    if cut >= len(data):
        assert len(whole) == len(written)


def test_records_survive_a_restart_and_those_acknowledged_do_not_come_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    ends = [spool.append(0, 3, b"key", b"value %d" % n) for n in range(10)]
    spool.acknowledge(ends[3])
    spool.close()
    again = open_spool(tmp_path)
    assert contents(again) == [b"value %d" % n for n in range(4, 10)]
    assert again.append(1, 0, b"", b"next") > ends[-1]
    assert contents(again)[-1] == b"next"
    again.close()


def test_files_roll_and_go_when_kafka_has_what_they_hold(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=200)
    ends = [spool.append(0, 0, b"k", b"%03d" % n * 10) for n in range(40)]
    assert len(segment_bases(tmp_path)) > 5
    assert contents(spool) == [b"%03d" % n * 10 for n in range(40)]
    spool.acknowledge(ends[-1])
    assert len(segment_bases(tmp_path)) == 1
    assert spool.waiting == 0
    spool.close()


def test_a_torn_tail_is_cut_off_and_the_log_goes_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(0, 0, b"k", b"whole")
    spool.close()
    with segment_path(tmp_path, 0).open("ab") as file:
        file.write(frame(0, 0, b"k", b"torn")[:-2])
    again = open_spool(tmp_path)
    again.append(0, 0, b"k", b"after")
    assert contents(again) == [b"whole", b"after"]
    again.close()


def test_altered_bytes_in_a_closed_file_cost_the_rest_of_that_file_alone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=100)
    for n in range(9):
        spool.append(0, 0, b"k", b"%d" % n * 30)
    first, second = segment_bases(tmp_path)[:2]
    with segment_path(tmp_path, first).open("r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    lost = second // len(frame(0, 0, b"k", b"0" * 30))
    assert contents(spool) == [b"%d" % n * 30 for n in range(lost, 9)]
    spool.close()


def test_a_lost_mark_means_sending_again_not_losing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    end = spool.append(0, 0, b"k", b"sent")
    spool.append(0, 0, b"k", b"unsent")
    spool.acknowledge(end)
    spool.close()
    (tmp_path / "acknowledged").write_bytes(b"\x00" * 12)
    again = open_spool(tmp_path)
    assert contents(again) == [b"sent", b"unsent"]
    again.close()


def test_beyond_its_bound_the_log_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=300)
    end = 0
    with pytest.raises(BufferFullError, match="wait for Kafka: at most 300"):
        while True:
            end = spool.append(0, 0, b"k", b"x" * 50)
    spool.acknowledge(end)
    spool.append(0, 0, b"k", b"x" * 50)
    with pytest.raises(EventError, match="at most 900000 bytes"):
        spool.append(0, 0, b"k", b"x" * MAX_RECORD)
    spool.close()


def test_a_record_larger_than_the_reading_limit_is_read(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(0, 0, b"k", b"x" * 5000)
    spool.append(0, 0, b"k", b"y")
    assert contents(spool, limit=64) == [b"x" * 5000, b"y"]
    spool.close()


def test_two_gateways_cannot_have_one_folder(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(UsageError, match="another gateway uses it"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_what_a_killed_process_had_appended_is_there(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from serving.gateway.spool import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=10**9, segment_bytes=20_000)
n = 0
while True:
    spool.append(0, 0, b"k", b"%d" % n)
    print(n, flush=True)
    n += 1
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    answered = -1
    while answered < 2000:
        answered = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    answered = int(rest[-1]) if rest else answered
    spool = open_spool(tmp_path)
    values = contents(spool, limit=10_000)
    assert values[: answered + 1] == [b"%d" % n for n in range(answered + 1)]
    assert len(values) <= answered + 2
    spool.close()
