"""How long single answers take, seen by a client in a process of its own, the same for ours and for peers."""

from __future__ import annotations

import dataclasses
import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Questions:
    """What to ask.

    Attributes:
        url: what the paths are below.
        headers: of every request.
        paths: each connection asks all of them in turn, each beginning with another one.
        connections: at once.
        times: how often each connection asks each path.
        one_each: a connection asks one path only, the next connection the next.
    """

    url: str
    headers: dict[str, str]
    paths: list[str]
    connections: int = 1
    times: int = 1
    one_each: bool = False


def ask(questions: Questions) -> dict[str, list[float]]:
    """The milliseconds of each answer, by path.

    Raises:
        SystemExit: not everything was answered with 200 or 204.
    """
    given = json.dumps(dataclasses.asdict(questions))
    done = subprocess.run(
        [sys.executable, __file__], input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the client failed: {done.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _ask_all(questions: Questions, number: int) -> list[tuple[str, float]]:
    base = urlsplit(questions.url)
    connection = http.client.HTTPConnection(base.netloc, timeout=600)
    connection.connect()
    first = number % len(questions.paths)
    paths = questions.paths[first:] + questions.paths[:first]
    taken = []
    for _ in range(questions.times):
        for path in paths[:1] if questions.one_each else paths:
            began = time.perf_counter()
            connection.request("GET", base.path + path, headers=questions.headers)
            answer = connection.getresponse()
            body = answer.read()
            taken.append((path, (time.perf_counter() - began) * 1000))
            if answer.status not in {200, 204}:
                raise SystemExit(f"{answer.status}: {body[:200]!r}")
    connection.close()
    return taken


def main() -> None:
    """`Questions` on stdin, milliseconds by path on stdout."""
    questions = Questions(**json.load(sys.stdin))
    found: dict[str, list[float]] = {path: [] for path in questions.paths}
    with ThreadPoolExecutor(questions.connections) as clients:
        for taken in clients.map(lambda number: _ask_all(questions, number), range(questions.connections)):
            for path, milliseconds in taken:
                found[path].append(milliseconds)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
