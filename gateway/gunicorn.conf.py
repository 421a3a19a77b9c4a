# ruff: noqa: N999 - the name that gunicorn looks for
"""gunicorn's configuration: `gunicorn -c gateway/gunicorn.conf.py`, or `python -m gateway`."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import struct
import tempfile
from typing import TYPE_CHECKING, Any

from gateway.settings import GatewaySettings
from pacs import logs
from pacs.settings import load

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

_settings = load(GatewaySettings)
logs.configure("gateway", _settings.log_level)

# Each process counts for itself into files here; /metrics adds them up. It must be set before
# prometheus_client is imported, which the application does.
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="gateway-metrics-")
    _master = os.getpid()

    @atexit.register
    def _remove_metrics() -> None:
        if os.getpid() == _master:
            shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


wsgi_app = "gateway.wsgi:application()"
_host = _settings.gateway_host
bind = f"[{_host}]:{_settings.gateway_port}" if ":" in _host else f"{_host}:{_settings.gateway_port}"
proc_name = "gateway"
workers = _settings.gateway_workers
threads = _settings.gateway_threads
worker_class = "gateway.server.GatewayWorker"
logger_class = "gateway.server.GatewayLogger"
accesslog = "-"
# A slow client of a large study must not be cut off: this is for a worker that hangs altogether.
timeout = 120
graceful_timeout = 30
keepalive = 30
# Below /dicom-web the application answers 414 from 4096 characters on; a token has up to 12,000.
limit_request_line = 8190
limit_request_fields = 50
limit_request_field_size = 16_380
# gunicorn would let a proxy on the same machine, and so its clients, set SCRIPT_NAME and PATH_INFO.
forwarder_headers = ""
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
proxy_allow_ips = ""
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108 - a heartbeat file only


def when_ready(server: Arbiter) -> None:
    """A client that falls silent holds no thread for long: accepted sockets inherit the listeners' timeouts.

    `timeout` above is not for that: a threaded worker is alive while its threads wait.
    """
    seconds = struct.pack("ll", _settings.gateway_client_seconds, 0)
    for listener in server.LISTENERS:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, seconds)


def worker_exit(_server: Arbiter, worker: Worker) -> None:
    """Write what the worker still holds: the last denials."""
    application: Any = getattr(worker, "wsgi", None)
    if application is not None:
        application.extensions["gateway"].close()


def child_exit(_server: Arbiter, worker: Worker) -> None:
    """A worker is gone: its gauges end with it."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - see above

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
