"""The small server of a daemon."""

from __future__ import annotations

from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge

from importer.health_server import HealthServer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_listens_on_addresses_of_both_kinds(host: str) -> None:
    registry = CollectorRegistry()
    Gauge("sample", "A sample.", registry=registry).set(7)
    server = HealthServer(host, 0, registry, alive=dict, ready=dict)
    server.start()
    try:
        authority = f"[{host}]" if ":" in host else host
        with urlopen(f"http://{authority}:{server.port}/metrics", timeout=10) as answer:
            assert b"sample 7.0" in answer.read()
    finally:
        server.stop()
