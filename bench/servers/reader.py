"""Somebody who scrolls through a study at a steady pace, and how long each picture takes to be there."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import urllib3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.nginx import Nginx

_AT_ONCE = 20
"""Requests, as `maxNumRequests` of our app-config.js lets OHIF."""
_SECONDS = 60


@dataclass(frozen=True)
class Waited:
    """For each picture, in ms."""

    each: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.each)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.each, n=20)[-1]


def scroll(nginx: Nginx, paths: Sequence[str], *, token: str, accept: str, every: float) -> Waited:
    """Ask over TLS for one picture after the other, whether or not the ones before have come.

    Args:
        paths: below the site's root, in the order in which they are looked at.
        every: so many seconds. A wait begins when a picture is wanted, though it may be asked for later.
    """
    headers = {
        "Host": f"localhost:{nginx.https_port}",
        "Authorization": f"Bearer {token}",
        "Accept": accept,
    }
    with (
        urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            nginx.https_port,
            maxsize=_AT_ONCE,
            ssl_context=nginx.trust(),
            server_hostname="localhost",
            assert_hostname="localhost",
            retries=False,
            timeout=_SECONDS,
            headers=headers,
        ) as pool,
        ThreadPoolExecutor(_AT_ONCE) as fingers,
    ):
        began = time.perf_counter()

        def look(number: int) -> float:
            wanted = began + number * every
            answer = pool.request("GET", paths[number])
            if answer.status != 200:
                raise SystemExit(f"the reader was answered {answer.status}")
            return (time.perf_counter() - wanted) * 1000

        coming = []
        for number in range(len(paths)):
            time.sleep(max(0.0, began + number * every - time.perf_counter()))
            coming.append(fingers.submit(look, number))
        return Waited(tuple(each.result() for each in coming))
