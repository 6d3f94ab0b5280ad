"""The state of a run as metrics for Prometheus, served by an HTTP endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from synthvlm.errors import MissingExtraError, SynthVLMError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from synthvlm.progress.display import Tracker

__all__ = ["serve_metrics"]

_HOST = "127.0.0.1"
#: Gauges of the current stage: name, key in the tracker's snapshot, description.
_GAUGES = (
    ("synthvlm_rate", "rate", "Units of the stage done per second, over the last minute."),
    (
        "synthvlm_seconds_left",
        "seconds_left",
        "Seconds until the stage is done, at this rate.",
    ),
    ("synthvlm_workers", "workers", "Number of workers of the stage."),
    (
        "synthvlm_generator_waited_ratio",
        "waited",
        "Share of the workers' time, 0 to 1, in which the generator (the GPU) waited.",
    ),
    ("synthvlm_candidates_failed", "failed", "Number of candidates of the stage that failed."),
)
#: Gauges of each scorer of the current stage, in the order of the values of ``ScorerWork``.
_OF_SCORERS = (
    ("synthvlm_scorer_images", "Images that a scorer has scored in this run."),
    ("synthvlm_scorer_seconds", "Seconds of a scorer's work in this run, added up over threads."),
)


@contextmanager
def serve_metrics(tracker: Tracker, address: str) -> Iterator[str]:
    """Serve metrics while the context lasts.

    Args:
        tracker: Its state is read at each scrape.
        address: ``PORT`` or ``HOST:PORT``. Without a host, only this machine can connect. Port 0
            stands for any free port.

    Yields:
        The URL of the endpoint.

    Raises:
        MissingExtraError: ``prometheus_client`` is not installed.
        SynthVLMError: The address is invalid or in use.
    """
    host, port = _parsed(address)
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise MissingExtraError(
            "--metrics needs prometheus_client: pip install 'synthvlm[metrics]'"
        ) from None
    registry = CollectorRegistry()
    registry.register(_Collector(tracker))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SynthVLMError(
            f"--metrics {address}: cannot listen there ({error.strerror or error}): "
            f"choose another port"
        ) from None
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """Turns a tracker's snapshot into metrics at each scrape."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def collect(self) -> Iterator[Metric]:
        """The current metrics, without those that are not known."""
        from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("synthvlm", "This package.", {"version": version("synthvlm")})
        snapshot = self._tracker.snapshot()
        stages: dict[str, dict[str, Any]] = {s["stage"]: s for s in snapshot["finished"]}
        if snapshot["stage"] is not None:
            stages[snapshot["stage"]] = snapshot
        for key, help in (
            ("done", "Units of the stage that are done, including those of earlier runs."),
            ("total", "All units of the stage."),
        ):
            family = GaugeMetricFamily(f"synthvlm_stage_{key}", help, labels=["stage"])
            for stage, values in stages.items():
                if values[key] is not None:
                    family.add_metric([stage], values[key])
            yield family
        for name, key, help in _GAUGES:
            family = GaugeMetricFamily(name, help, labels=["stage"])
            if snapshot[key] is not None:
                family.add_metric([snapshot["stage"]], snapshot[key])
            yield family
        for place, (name, help) in enumerate(_OF_SCORERS):
            family = GaugeMetricFamily(name, help, labels=["stage", "scorer"])
            for scorer, work in (snapshot["scorers"] or {}).items():
                family.add_metric([snapshot["stage"], scorer], work[place])
            yield family


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise SynthVLMError(f"--metrics {address}: expected PORT or HOST:PORT, e.g. {_HOST}:9400")
    return host.removeprefix("[").removesuffix("]") or _HOST, int(port)
