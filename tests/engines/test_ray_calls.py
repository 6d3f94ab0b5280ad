"""Calls to an actor that are lost on the way, or come twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_jobs import ToyJob

from synthvlm.engines.channel import Message
from synthvlm.engines.ray_actors import _Actor, _reason

pytest.importorskip("ray")


def heard_until(actor: _Actor, kind: str, heard: int) -> list[Message]:
    """What it says after so many messages, up to one of a kind."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        messages = actor.messages_after(heard)
        if messages and messages[-1][0] == kind:
            return messages
    raise AssertionError(f"it never said {kind}")


def test_what_was_lost_is_said_again_and_a_reply_counts_once(tmp_path: Path) -> None:
    actor = _Actor(ToyJob(tmp_path), os.getcwd())
    (ask,) = heard_until(actor, "ask", 0)
    assert ask == ("ask", True)
    assert actor.messages_after(0) == [ask]  # the first answer never arrived
    actor.reply(1, 7)
    actor.reply(1, 7)  # sent again, for it seemed lost
    messages = heard_until(actor, "ask", 1)
    assert messages[-1] == ("ask", False)
    assert ask not in messages
    heard = 1 + len(messages)
    actor.reply(2, None)
    messages = heard_until(actor, "ask", heard)
    assert [kind for kind, _ in messages] == ["result", "ask"]
    actor.reply(3, None)
    actor._thread.join(20)
    assert not actor._thread.is_alive()
    assert (tmp_path / "7").read_text() == "x"


CHAOS = {"num_failures": 4, "req_failure_prob": 25, "resp_failure_prob": 75}
SCRIPT = """
import sys
from pathlib import Path
import ray
from toy_jobs import Told, ToyJob
from synthvlm.engines.base import ShardResult
from synthvlm.engines.ray_actors import RayEngine

ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False,
         log_to_driver=False, logging_level="ERROR")
updates = RayEngine(2).run(ToyJob(Path(sys.argv[1]), pause_s=0.005), range(12), Told())
print(sorted(one.shard for one in updates if isinstance(one, ShardResult)))
"""


@pytest.mark.long
def test_a_network_that_loses_calls_stops_nothing(tmp_path: Path) -> None:
    """Ray's own fault injection: of the first calls some do not arrive, or their results."""
    chaos = {"CoreWorkerService.grpc_client.PushTask": CHAOS}
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "RAY_testing_rpc_failure": json.dumps(chaos),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(list(range(12)))
    committed = {path.name for path in tmp_path.iterdir() if path.name.isdecimal()}
    assert committed == {str(number) for number in range(12)}


def test_why_an_actor_cannot_be_made_is_told() -> None:
    """On its node a plug-in may be missing."""
    problem = "recipe: scoring.mine: there is no scorer 'mine'; add --plugin FILE.py"
    text = (
        "The actor died because of an error raised in its creation task, ray::_Actor.__init__() "
        "(pid=1)\n  At least one of the input arguments for this task could not be computed:\n"
        f"ray.exceptions.RaySystemError: System error: {problem}\ntraceback: Traceback:\n"
        f"    raise RecipeError()\nsynthvlm.errors.RecipeError: {problem}"
    )
    assert _reason(RuntimeError(text)) == f"it cannot be made there: {problem}"
