"""What the demo does once everything runs: stream, wait until all is searchable, ask, check the answers."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag
from penstock.cli.common import print_table, say
from penstock.cli.demo.questions import SampleQuery, sample_queries
from penstock.cli.demo.samples import sample_events
from penstock.cli.search import hit_row
from penstock.cli.streaming import ProduceStream, ProduceTally
from penstock.client import get_status, post_search
from penstock.config import Endpoints, Settings
from penstock.embedded.services import StartInterruptedError
from penstock.errors import UnavailableError
from penstock.ingest.status import read_status
from penstock.records import Modality
from penstock.samples.timed_media import sample_timed_media

# Slow enough to watch the stream arrive, fast enough not to be waited for; what two cores compose and encode at once.
_RATE_PER_S = 80.0
_SEARCHABLE_TIMEOUT_S = 240.0  # 1,200 events on the slowest machine that was tried take a fifth of it
_POLL_S = 0.25
_PLAIN_LINE_EVERY_S = 5.0
_SHOWN_HITS = 3


class DemoRun:
    """One run of the demo against services that are up.

    Args:
        settings: with the demo's own data folder.
        endpoints: of the services.
        stop: set when the user wants no more.
        pictures, texts: how many to stream.
        questions: of the user, besides the samples.
    """

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        stop: threading.Event,
        *,
        pictures: int,
        texts: int,
        questions: tuple[str, ...],
    ) -> None:
        kafka = settings.kafka.model_copy(update={"bootstrap_servers": endpoints.bootstrap_servers})
        self._settings = settings.model_copy(update={"kafka": kafka})
        self._url = endpoints.query_url
        self._stop = stop
        self._pictures = pictures
        self._texts = texts
        self._questions = questions
        self._tally = ProduceTally()

    def run(self) -> bool:
        """Streams, waits, asks.

        Returns:
            whether everything was acknowledged, indexed, and each sample question found something right.

        Raises:
            UnavailableError: something did not answer, or not all became searchable in time.
            StartInterruptedError: `stop` was set.
        """
        with self._display():
            self._stream()
            self._await_searchable()
        self._check_counts()
        answered = [self._ask(question) for question in sample_queries(self._pictures, self._texts)]
        for text in self._questions:
            self._show(f"Your question: {text}", post_search(self._url, {"text": text}, self._settings))
        say(f"{sum(answered)} of {len(answered)} sample questions found something right.")
        return all(answered)

    # --- streaming ---------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        producer = MessageProducer(self._settings.kafka)
        try:
            stream = ProduceStream(producer, rate_per_s=_RATE_PER_S)
            self._tally = stream.tally
            for item in sample_events(self._settings, self._pictures, self._texts):
                self._go_on()
                stream.send(item)
            stream.finish()
        finally:
            producer.close(10.0)
        if not stream.tally.complete:
            first = (stream.tally.failed + stream.tally.refused)[0]
            raise UnavailableError(f"Kafka did not take {first.label}: {first.why}")

    def _await_searchable(self) -> None:
        """Committed means settled: every event is in the index, or a dead letter."""
        topics = [self._settings.kafka.topic_of(modality) for modality in Modality]
        deadline = time.monotonic() + _SEARCHABLE_TIMEOUT_S
        while (lag := sum(one.lag for one in group_lag(self._settings.kafka, topics))) > 0:
            self._go_on()
            if time.monotonic() > deadline:
                log = self._settings.data_dir / "logs" / "ingest.log"
                raise UnavailableError(f"{lag} events were not indexed after {_SEARCHABLE_TIMEOUT_S:.0f} s; see {log}")
            self._stop.wait(_POLL_S)

    def _check_counts(self) -> None:
        entries = get_status(self._url, self._settings)["entries"]
        recordings = sample_timed_media()
        wanted = {
            "image": self._pictures,
            "text": self._texts,
            "frame": sum(len(one.scenes) for one in recordings),
            "speech": sum(len(one.sentences) for one in recordings),
        }
        for collection, count in wanted.items():
            if entries.get(collection, 0) < count:
                raise UnavailableError(
                    f"{count} entries of {collection} were to come of what was streamed, but the index has "
                    f"{entries.get(collection, 0)}. `penstock deadletters list` shows what was refused"
                )
        say(
            f"All is searchable: {entries.get('image', 0)} pictures, {entries.get('text', 0)} passages of text, "
            f"{entries.get('frame', 0)} scenes and {entries.get('speech', 0)} spoken passages."
        )

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise StartInterruptedError("the demo was stopped")

    # --- questions ---------------------------------------------------------------------------------------------------

    def _ask(self, question: SampleQuery) -> bool:
        body: dict[str, Any] = {"limit": question.within, "modalities": [question.modality.value]}
        if question.picture is not None:
            body["image"] = base64.b64encode(question.picture).decode()
        elif question.sound is not None:
            body["audio"] = base64.b64encode(question.sound).decode()
        else:
            body["text"] = question.text
        answer = post_search(self._url, body, self._settings)
        rank = next((rank for rank, hit in enumerate(answer["hits"], start=1) if question.is_right(hit)), None)
        verdict = "nothing right was found" if rank is None else f"right at #{rank}"
        asked = answer.get("transcript") or question.text
        self._show(f"{question.way}: {asked}  ({verdict})", answer)
        return rank is not None

    def _show(self, heading: str, answer: dict[str, Any]) -> None:
        say("")
        say(heading)
        rows = [hit_row(rank, hit, self._url) for rank, hit in enumerate(answer["hits"][:_SHOWN_HITS], start=1)]
        print_table(rows)

    # --- showing the stream ------------------------------------------------------------------------------------------

    @contextmanager
    def _display(self) -> Iterator[None]:
        """A live table on a terminal, a line now and then elsewhere."""
        console = Console(stderr=True)
        if console.is_terminal:
            with Live(get_renderable=self._table, console=console, refresh_per_second=4):
                yield
            return
        with _repeated(self._say_progress, _PLAIN_LINE_EVERY_S):
            yield
        self._say_progress()

    def _table(self) -> Table:
        status = read_status(self._settings.data_dir)
        title = f"streamed {self._tally.acknowledged} of {self._pictures + self._texts + len(sample_timed_media())}"
        table = Table("", "produced", "searchable", "fresh p50", "fresh p95", "dead letters", title=title, box=None)
        for modality in (Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.VIDEO):
            outcomes = status.outcomes.get(modality.value, {}) if status else {}
            fresh = status.freshness.get(modality.value) if status else None
            table.add_row(
                modality.value,
                str(self._tally.by_topic.get(self._settings.kafka.topic_of(modality), 0)),
                str(outcomes.get("indexed", 0)),
                f"{fresh.p50_s:.2f} s" if fresh else "",
                f"{fresh.p95_s:.2f} s" if fresh else "",
                str(outcomes.get("dead_lettered", 0)),
            )
        return table

    def _say_progress(self) -> None:
        status = read_status(self._settings.data_dir)
        outcomes = status.outcomes if status else {}
        done = sum(by_outcome.get("indexed", 0) for by_outcome in outcomes.values())
        refused = sum(by_outcome.get("dead_lettered", 0) for by_outcome in outcomes.values())
        fresh = ", ".join(
            f"{modality} fresh after {one.p50_s:.2f} s (p95 {one.p95_s:.2f} s)"
            for modality, one in (status.freshness.items() if status else ())
        )
        say(
            f"produced {self._tally.acknowledged}, searchable {done}, dead letters {refused}" + (fresh and f"; {fresh}")
        )


@contextmanager
def _repeated(action: Callable[[], None], every_s: float) -> Iterator[None]:
    """Runs an action every few seconds beside the block."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(every_s):
            action()

    thread = threading.Thread(target=loop, name="demo progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
