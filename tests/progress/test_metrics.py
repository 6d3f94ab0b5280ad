"""The endpoint for Prometheus, scraped for real on this machine."""

from __future__ import annotations

import socket
import sys
from importlib.metadata import version
from urllib.request import ProxyHandler, build_opener

import pytest
from prometheus_client.parser import text_string_to_metric_families

from synthvlm.errors import MissingExtraError, SynthVLMError
from synthvlm.progress.display import SilentProgress, Tracker
from synthvlm.progress.metrics import serve_metrics


def scrape(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of an endpoint by name and labels; each family has a help text."""
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        text = answer.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def test_a_scrape_tells_how_things_are_at_that_moment() -> None:
    now = 0.0
    tracker = Tracker(SilentProgress(), lambda: now)
    info = ("synthvlm_info", (("version", version("synthvlm")),))
    generate, measure = (("stage", "generate"),), (("stage", "measure"),)
    with serve_metrics(tracker, "0") as url:
        assert scrape(url) == {info: 1}
        tracker.start("measure", None, "captions")
        tracker.advance(155)
        tracker.finish("measure", "155 captions read")
        tracker.start("generate", 400, "candidates", 100)
        assert scrape(url) == {
            info: 1,
            ("synthvlm_stage_done", measure): 155,
            ("synthvlm_stage_done", generate): 100,
            ("synthvlm_stage_total", generate): 400,
            ("synthvlm_candidates_failed", generate): 0,
        }
        now = 10.0
        tracker.advance(50)
        tracker.update_workers(4, 0.25, 3, {"clip": (150, 2.5)})
        assert scrape(url) == {
            info: 1,
            ("synthvlm_stage_done", measure): 155,
            ("synthvlm_stage_done", generate): 150,
            ("synthvlm_stage_total", generate): 400,
            ("synthvlm_rate", generate): 5,
            ("synthvlm_seconds_left", generate): 50,
            ("synthvlm_workers", generate): 4,
            ("synthvlm_generator_waited_ratio", generate): 0.25,
            ("synthvlm_candidates_failed", generate): 3,
            ("synthvlm_scorer_images", (("scorer", "clip"), *generate)): 150,
            ("synthvlm_scorer_seconds", (("scorer", "clip"), *generate)): 2.5,
        }
        tracker.finish("generate", "done")
        assert scrape(url)["synthvlm_stage_done", generate] == 150
        assert ("synthvlm_workers", generate) not in scrape(url)


def test_the_endpoint_is_gone_with_its_context() -> None:
    with serve_metrics(Tracker(SilentProgress()), "127.0.0.1:0") as url:
        scrape(url)
    with pytest.raises(OSError, match="refused"):
        scrape(url)


def test_two_runs_in_one_process_do_not_mix() -> None:
    first, second = Tracker(SilentProgress()), Tracker(SilentProgress())
    first.start("generate", 1, "candidates")
    with serve_metrics(first, "0") as one, serve_metrics(second, "0") as other:
        assert len(scrape(one)) > 1
        assert len(scrape(other)) == 1


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(SynthVLMError, match=r"cannot listen there \(.+\): choose ") as raised,
            serve_metrics(Tracker(SilentProgress()), address),
        ):
            pass
    assert address in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["", "metrics", "127.0.0.1", "localhost:", "1:-1", "70000", "²"]
)
def test_what_is_no_address_is_one_line(address: str) -> None:
    with (
        pytest.raises(SynthVLMError, match="expected PORT or HOST:PORT"),
        serve_metrics(Tracker(SilentProgress()), address),
    ):
        pass


def test_a_host_that_is_not_there_is_one_line() -> None:
    with (
        pytest.raises(SynthVLMError, match="cannot listen there"),
        serve_metrics(Tracker(SilentProgress()), "no-such-host.invalid:0"),
    ):
        pass


def test_the_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(MissingExtraError, match=r"pip install 'synthvlm\[metrics\]'"),
        serve_metrics(Tracker(SilentProgress()), "0"),
    ):
        pass
