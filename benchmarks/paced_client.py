"""Sends searches at a rate from a process of its own, and measures each from the moment at which it was due.

    python -m benchmarks.paced_client       # reads one order a line as JSON, and answers each with one line

Whatever a slow server delays counts, as the next search is due although the last has no answer (an open loop). It
imports the standard library alone, so that the client takes little of the machine that it measures.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

_TIMEOUT_S = 30.0
_WORDS_OF_QUESTION = 5


@dataclass(frozen=True, slots=True)
class PacedOrder:
    """Describes what a client sends in one period.

    Attributes:
        url: of the query plane.
        key: the API key of the caller.
        per_s: searches that are due in a second, at random moments (exponential gaps).
        seconds: of the period.
        connections: at most as many searches are in progress.
        words: of the questions.
        seed: of the moments and the questions; the same one repeats the moments.
        first: number of the first question, which makes it one that no cache has seen.
    """

    url: str
    key: str
    per_s: float
    seconds: float
    connections: int
    words: Sequence[str]
    seed: int
    first: int


@dataclass(frozen=True, slots=True)
class PacedResult:
    """The answers of one period.

    Attributes:
        took_ms: from due to answered, of each search that was answered with hits.
        statuses: answers by their status; an error of the connection is "error".
        cpu_s: CPU seconds of the client.
    """

    took_ms: Sequence[float]
    statuses: Mapping[str, int]
    cpu_s: float


class PacedClient:
    """A client in a process of its own. Use it as a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.paced_client"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> PacedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def begin(self, order: PacedOrder) -> None:
        """Starts a period."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()

    def result(self) -> PacedResult:
        """Returns the result of the period that was begun, once it is over."""
        assert self._process.stdout is not None
        return PacedResult(**json.loads(self._process.stdout.readline()))


def send_paced(order: PacedOrder) -> PacedResult:
    """Sends the searches of one period from this process."""
    calls = _Calls(order)
    threads = [threading.Thread(target=calls.run, daemon=True) for _ in range(order.connections)]
    before_s = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return PacedResult(calls.took_ms, dict(calls.statuses), time.process_time() - before_s)


class _Calls:
    """The searches of one period, which the threads take one after another."""

    def __init__(self, order: PacedOrder) -> None:
        self._order = order
        self._due = self._moments(random.Random(order.seed))
        self._lock = threading.Lock()
        self.took_ms: list[float] = []
        self.statuses: Counter[str] = Counter()

    def run(self) -> None:
        """Sends searches over one connection until none is due any more."""
        address = urlsplit(self._order.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
        try:
            while (due := self._next()) is not None:
                due_s, question = due
                time.sleep(max(0.0, due_s - time.perf_counter()))
                status = self._send(connection, question)
                took_ms = (time.perf_counter() - due_s) * 1000
                with self._lock:
                    self.statuses[status] += 1
                    if status == "200":
                        self.took_ms.append(took_ms)
        finally:
            connection.close()

    def _next(self) -> tuple[float, str] | None:
        with self._lock:
            return next(self._due, None)

    def _moments(self, source: random.Random) -> Iterator[tuple[float, str]]:
        """Yields (when a search is due by `time.perf_counter`, its question)."""
        began_s, at_s, number = time.perf_counter(), 0.0, self._order.first
        while True:
            at_s += source.expovariate(self._order.per_s)
            if at_s >= self._order.seconds:
                return
            words = source.choices(self._order.words, k=_WORDS_OF_QUESTION)
            yield began_s + at_s, f"{' '.join(words)} {number}"
            number += 1

    def _send(self, connection: http.client.HTTPConnection, question: str) -> str:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._order.key}"}
        try:
            connection.request("POST", "/v1/search", json.dumps({"text": question}), headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return "error"
        if response.status != 200:
            return str(response.status)
        result = json.loads(answer)
        if result["partial"]:
            return "partial"
        return "200" if result["hits"] else "no hits"


def main() -> None:
    """Carries out one order after another, as the module's docstring says."""
    for line in sys.stdin:
        print(json.dumps(asdict(send_paced(PacedOrder(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
