"""Replies survive kills and damage, and a million of them fit in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.endpoint import FakeEndpoint, Say
from synthvlm.endpoints.client import EndpointClient
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.replies import ReplyStore, StoredReply, reply_key
from synthvlm.errors import RunFolderError

KEYS = [bytes([number]) * 16 for number in range(10)]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_replies_come_back(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "a" / "b") as store:
        store.put(KEYS[0], "Yes", "stop", tokens=7)
        store.put(KEYS[1], "\ud800 é\n🎈", None)
        assert store.get(KEYS[0]) == StoredReply("Yes", "stop")
    again = ReplyStore(tmp_path / "a" / "b")
    assert len(again) == 2
    assert again.get(KEYS[1]) == StoredReply("\ud800 é\n🎈", None)
    assert again.get(KEYS[2]) is None
    assert again.damaged == 0


def test_reading_writes_nothing(tmp_path: Path) -> None:
    with ReplyStore(tmp_path):
        pass
    assert parts(tmp_path) == []


def test_a_part_is_never_written_by_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ReplyStore(tmp_path), ReplyStore(tmp_path)
    first.put(KEYS[0], "a")
    # Both looked for a free number at the same moment.
    monkeypatch.setattr(second, "_numbers", lambda: iter(range(9)))
    second.put(KEYS[1], "b")
    first.close()
    second.close()
    assert [path.name for path in parts(tmp_path)] == [
        "replies-00000.jsonl",
        "replies-00001.jsonl",
    ]
    assert len(ReplyStore(tmp_path)) == 2


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"not json",
        b"[]",
        b"1",
        b"\xff\xfe",
        b'{"key": "00", "text": "Yes", "finish_reason": null}',
        b'{"key": "' + b"00" * 16 + b'", "text": 1, "finish_reason": null}',
        b'{"key": "' + b"00" * 16 + b'", "text": "Yes"}',
        b'{"key": null, "text": "Yes", "finish_reason": null}',
    ],
)
def test_a_damaged_line_is_skipped_and_counted(tmp_path: Path, bad: bytes) -> None:
    with ReplyStore(tmp_path) as store:
        for key in KEYS[:3]:
            store.put(key, "Yes")
    [part] = parts(tmp_path)
    lines = part.read_bytes().splitlines()
    part.write_bytes(b"\n".join([lines[0], bad, lines[2]]) + b"\n")
    again = ReplyStore(tmp_path)
    assert again.damaged == 1
    assert [again.get(key) is not None for key in KEYS[:3]] == [True, False, True]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_torn_part_costs_no_more_than_its_last_line(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    with ReplyStore(folder) as store:
        for key in KEYS:
            store.put(key, "a reply", "stop")
    [part] = parts(folder)
    content = part.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    part.write_bytes(content[:cut])
    with ReplyStore(folder) as again:
        # A line that lacks only its newline is whole.
        assert len(again) in {content[:cut].count(b"\n"), content[: cut + 1].count(b"\n")}
        assert again.damaged <= 1
        again.put(KEYS[9], "new")
    assert ReplyStore(folder).get(KEYS[9]) == StoredReply("new", None)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot read the model replies"):
        ReplyStore(tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    store._part = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(RunFolderError, match="cannot write the model replies: No space left"):
        store.put(KEYS[0], "Yes")
    os.close(store._part)


def test_a_key_is_all_that_a_reply_depends_on() -> None:
    messages = [{"role": "user", "content": "\ud800"}]
    keys = {
        reply_key("m", messages, {"seed": 1, "temperature": 0}),
        reply_key("n", messages, {"seed": 1, "temperature": 0}),
        reply_key("m", messages, {"seed": 2, "temperature": 0}),
        reply_key("m", messages * 2, {"seed": 1, "temperature": 0}),
    }
    assert len(keys) == 4
    assert reply_key("m", messages, {"temperature": 0, "seed": 1}) in keys
    # Stored replies must be found by later versions: blake2b of '["m", [], {}]'.
    assert reply_key("m", [], {}).hex() == "3eb293ca955ae43bfab028a487acb632"


def test_it_is_synced_by_number_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with ReplyStore(tmp_path / "a", sync_every=3, sync_seconds=1e9) as store:
        for key in KEYS[:7]:
            store.put(key, "Yes")
        assert len(synced) == 2
    assert len(synced) == 3
    store = ReplyStore(tmp_path / "b", sync_every=1000, sync_seconds=0.05)
    store.put(KEYS[0], "Yes")
    time.sleep(0.06)
    store.put(KEYS[1], "Yes")
    assert len(synced) == 4
    store.close()


ASKING = """
import sys
from synthvlm.endpoints.client import EndpointClient
from synthvlm.endpoints.connection import Connection
from synthvlm.endpoints.replies import ReplyStore
url, folder, count = sys.argv[1:]
client = EndpointClient(Connection(url, concurrency=4), "fake", store=ReplyStore(folder))
for _ in client.ask_all(
    (n, [{"role": "user", "content": str(n)}], {}) for n in range(int(count))
):
    pass
"""


def test_a_kill_in_the_middle_repeats_no_paid_request(tmp_path: Path) -> None:
    with FakeEndpoint(Say("Yes", delay_s=0.005)) as server:
        command = [sys.executable, "-c", ASKING, server.base_url, str(tmp_path), "300"]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 30
        while len(server.received) < 60 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.05)  # what was in work is answered into the void
        before = len(server.received)
        assert 60 <= before < 300
        with ReplyStore(tmp_path) as store:
            kept = len(store)
            assert store.damaged == 0
            # At most those in work, and one each just answered, were lost.
            assert kept >= before - 8
            asking = EndpointClient(Connection(server.base_url), "fake", store=store)
            replies = list(
                asking.ask_all((n, [{"role": "user", "content": str(n)}], {}) for n in range(300))
            )
        assert [reply.text for _, reply in replies] == ["Yes"] * 300
        assert asking.requests_sent == 300 - kept == len(server.received) - before
        done = subprocess.run(command, check=True)
        assert done.returncode == 0
        assert len(server.received) - before == 300 - kept


def test_verdicts_take_a_hundred_bytes_each(tmp_path: Path) -> None:
    row = {"text": "Yes", "finish_reason": "stop", "tokens": 250}
    with (tmp_path / "replies-00000.jsonl").open("w") as file:
        for number in range(100_000):
            file.write(json.dumps({"key": f"{number:032x}", **row}) + "\n")
    tracemalloc.start()
    try:
        store = ReplyStore(tmp_path)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(store) == 100_000
    # 26 MiB if equal texts were not shared.
    assert taken < 15 * 2**20
