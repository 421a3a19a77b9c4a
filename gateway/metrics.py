"""What alerts and dashboards rely on; served at /metrics, added up over all processes of gunicorn."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

REQUESTS = Counter("gateway_requests", "Requests answered", ["route", "status"])
SECONDS = Histogram(
    "gateway_request_seconds",
    "Time until the answer's first byte is ready",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
VERIFIED = Counter(
    "gateway_tokens_verified", "Tokens whose signature and claims were checked; others were known by then"
)
DENIED = Counter(
    "gateway_denied", "Requests refused by authentication or authorisation, by reason", ["reason"]
)
DENIAL_REASONS = (
    "no-token",
    "malformed",
    "too-large",
    "algorithm",
    "header",
    "unknown-key",
    "signature",
    "issuer",
    "audience",
    "client",
    "type",
    "time",
    "claims",
    "revoked",
    "no-clinic",
    "not-yours",
    "not-admin",
    "cross-site",
)
for _reason in DENIAL_REASONS:
    DENIED.labels(_reason)

JWKS_FETCHED = Gauge(
    "gateway_jwks_fetched_timestamp_seconds",
    "When the issuer's keys were last fetched, by each process",
    multiprocess_mode="liveall",
)


class _JwksAge:
    """Age at the time of the scrape of the oldest keys; a process that never needed any has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        age = GaugeMetricFamily(
            "gateway_jwks_age_seconds", "Time since the issuer's keys were last fetched; NaN before that"
        )
        fetched = [
            sample.value
            for family in self._registry.collect()
            for sample in family.samples
            if sample.name == "gateway_jwks_fetched_timestamp_seconds" and sample.value
        ]
        age.add_metric([], time.time() - min(fetched) if fetched else float("nan"))
        yield age


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    source = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        source = CollectorRegistry()
        multiprocess.MultiProcessCollector(source)  # type: ignore[no-untyped-call]
    age = CollectorRegistry()
    age.register(_JwksAge(source))
    return generate_latest(source) + generate_latest(age)
