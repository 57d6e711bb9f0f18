"""The run of the demo once all services are up: stream, wait until all is searchable, search, ask, check."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag
from penstock.cli.answer_view import show_answer
from penstock.cli.demo.queries import Abilities, SampleQuery, sample_queries
from penstock.cli.demo.questions import SampleQuestion, sample_questions
from penstock.cli.demo.samples import sample_events
from penstock.cli.render import print_table, say
from penstock.cli.search import hit_row
from penstock.cli.streaming import ProduceStream, ProduceTally
from penstock.client import PenstockClient, SearchRequestJson, SearchResultJson, get_status, key_source, post_search
from penstock.config import Endpoints, Settings
from penstock.config.endpoints import kafka_of
from penstock.embedded.services import StartInterruptedError
from penstock.encoders.profiles import Profile, SpeechSpec, load_profile
from penstock.errors import UnavailableError
from penstock.ingest.status import read_status
from penstock.records import Modality
from penstock.samples.documents import sample_documents
from penstock.samples.packaged_media import installed_media
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media

# Slow enough to watch the stream arrive, fast enough not to bore; two cores can compose and encode at this rate.
_RATE_PER_S = 80.0
_SEARCHABLE_TIMEOUT_S = 240.0  # 1,200 events took a fifth of it on the slowest machine measured
_POLL_S = 0.25
_PLAIN_LINE_EVERY_S = 5.0
_MAX_HITS_SHOWN = 3


class DemoRun:
    """One run of the demo against services that are up.

    Args:
        settings: the settings with the demo's own data folder.
        endpoints: the addresses of the services.
        stop: set when the user stops the demo.
        images: number of images to stream.
        texts: maximum number of texts to stream.
        queries: the user's queries, which run after the samples.
    """

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        stop: threading.Event,
        *,
        images: int,
        texts: int,
        queries: tuple[str, ...],
    ) -> None:
        kafka = kafka_of(endpoints, settings.kafka)
        self._settings = settings.model_copy(update={"kafka": kafka})
        self._url = endpoints.query_url
        self._stop = stop
        self._images = images
        self._texts = min(texts, len(sample_texts()))
        self._queries = queries
        self._profile = load_profile(settings.profile)
        self._abilities = abilities_of(self._profile)
        self._tally = ProduceTally()

    def run(self) -> bool:
        """Streams the samples, waits until they are searchable, and runs the queries and the questions.

        Returns:
            whether every sample query and every sample question got a right answer.

        Raises:
            UnavailableError: a service is unavailable, a message was not acknowledged, or not all samples became
                searchable in time.
            StartInterruptedError: `stop` was set.
        """
        with self._display():
            self._stream()
            self._await_searchable()
        self._check_counts()
        judged = [self._search(query) for query in sample_queries(self._images, self._texts, self._abilities)]
        answered = [right for right in judged if right is not None]
        for text in self._queries:
            self._show(f"Your query: {text}", post_search(self._url, {"text": text}, self._settings))
        say(f"{sum(answered)} of {len(answered)} sample queries got a right answer.")
        api_key = key_source(self._url, self._settings)
        with PenstockClient(self._url, tenant=self._settings.tenant, api_key=api_key) as client:
            judgements = [self._ask(client, question) for question in sample_questions(self._texts)]
        say(f"{sum(judgements)} of {len(judgements)} sample questions got a right answer.")
        say(f"Search, play and ask in a browser: {self._url}/")
        return all(answered) and all(judgements)

    # --- streaming ---------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        producer = MessageProducer(self._settings.kafka)
        try:
            stream = ProduceStream(producer, rate_per_s=_RATE_PER_S)
            self._tally = stream.tally
            packaged = self._abilities.photographs
            for item in sample_events(self._settings, self._images, self._texts, packaged=packaged):
                self._check_stopped()
                stream.send(item)
            stream.finish()
        finally:
            producer.close(10.0)
        if not stream.tally.complete:
            first = (stream.tally.failed + stream.tally.refused)[0]
            raise UnavailableError(f"Kafka did not acknowledge {first.label}: {first.reason}")

    def _await_searchable(self) -> None:
        """Waits until the lag is 0: a committed event is settled, so it is in the index or a dead letter."""
        topics = [self._settings.kafka.topic_of(modality, self._settings.tenant) for modality in Modality]
        deadline = time.monotonic() + _SEARCHABLE_TIMEOUT_S
        while (lag := sum(partition.lag for partition in group_lag(self._settings.kafka, topics))) > 0:
            self._check_stopped()
            if time.monotonic() > deadline:
                log = self._settings.data_dir / "logs" / "ingest.log"
                raise UnavailableError(f"{lag} events were not indexed after {_SEARCHABLE_TIMEOUT_S:.0f} s; see {log}")
            self._stop.wait(_POLL_S)

    def _check_counts(self) -> None:
        entries = get_status(self._url, self._settings)["entries"]
        timed_media, documents = sample_timed_media(), sample_documents()
        expected = {
            "image": self._images,
            "text": self._texts + sum(len(sample.pages) for sample in documents),
            "page": sum(len(sample.figures) + sample.page_images * len(sample.pages) for sample in documents),
            "frame": sum(len(sample.scenes) for sample in timed_media),
            # The reference speech model transcribes each sentence to one passage; others join or split them.
            "speech": sum(len(sample.sentences) for sample in timed_media)
            if _is_reference_speech(self._profile)
            else len(timed_media),
        }
        for collection, count in expected.items():
            if entries.get(collection, 0) < count:
                raise UnavailableError(
                    f"the streamed samples give {count} entries of {collection}, but the index has "
                    f"{entries.get(collection, 0)}; `penstock --data-dir {self._settings.data_dir} deadletters list` "
                    "shows the events that could not be indexed"
                )
        say(
            f"All samples are searchable: {entries.get('image', 0)} images, {entries.get('text', 0)} passages of text, "
            f"{entries.get('frame', 0)} scenes, {entries.get('speech', 0)} passages of speech and "
            f"{entries.get('page', 0)} pages and images of documents."
        )

    def _check_stopped(self) -> None:
        if self._stop.is_set():
            raise StartInterruptedError("the demo was stopped")

    # --- queries -----------------------------------------------------------------------------------------------------

    def _search(self, query: SampleQuery) -> bool | None:
        """Shows the hits of a query. Returns whether its answer is right; None if this profile has no way to judge."""
        body: SearchRequestJson = {"limit": query.within}
        if query.modality is not None:
            body["modalities"] = [query.modality.value]
        if query.where is not None:
            body["filter"] = query.where
        if query.image is not None:
            body["image"] = base64.b64encode(query.image).decode()
        elif query.audio is not None:
            body["audio"] = base64.b64encode(query.audio).decode()
        else:
            body["text"] = query.text
        result = post_search(self._url, body, self._settings)
        right, verdict = _judge(query, result)
        self._show(f"{query.direction}: {result.get('transcript') or query.text}  ({verdict})", result)
        return right

    def _ask(self, client: PenstockClient, question: SampleQuestion) -> bool:
        """Shows the answer to a question, and returns whether it is right."""
        answer = client.ask(question.text, generator="extractive")
        right = question.is_right(answer)
        verdict = "rightly: the index does not say" if right and question.key is None else "right" if right else "wrong"
        say("")
        say(f"question → answer: {question.text}  ({verdict})")
        answer["notices"] = ()  # those of the profile would be repeated below each answer
        show_answer(answer, self._url)
        return right

    def _show(self, heading: str, result: SearchResultJson) -> None:
        say("")
        say(heading)
        print_table(
            [hit_row(rank, hit, self._url) for rank, hit in enumerate(result["hits"][:_MAX_HITS_SHOWN], start=1)]
        )

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
        status = read_status(self._settings.data_dir, self._settings.kafka.group)
        packaged = len(installed_media()) if self._abilities.photographs else 0
        total = self._images + self._texts + len(sample_timed_media()) + len(sample_documents()) + packaged
        title = f"streamed {self._tally.acknowledged} of {total}"
        table = Table("", "produced", "searchable", "fresh p50", "fresh p95", "dead letters", title=title, box=None)
        for modality in (Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.VIDEO, Modality.DOCUMENT):
            outcomes = status.outcomes.get(modality.value, {}) if status else {}
            fresh = status.freshness.get(modality.value) if status else None
            table.add_row(
                modality.value,
                str(self._tally.by_topic.get(self._settings.kafka.topic_of(modality, self._settings.tenant), 0)),
                str(outcomes.get("indexed", 0)),
                f"{fresh.p50_s:.2f} s" if fresh else "",
                f"{fresh.p95_s:.2f} s" if fresh else "",
                str(outcomes.get("dead_lettered", 0)),
            )
        return table

    def _say_progress(self) -> None:
        status = read_status(self._settings.data_dir, self._settings.kafka.group)
        outcomes = status.outcomes if status else {}
        searchable = sum(by_outcome.get("indexed", 0) for by_outcome in outcomes.values())
        dead_letters = sum(by_outcome.get("dead_lettered", 0) for by_outcome in outcomes.values())
        freshness = ", ".join(
            f"{modality} fresh after {fresh.p50_s:.2f} s (p95 {fresh.p95_s:.2f} s)"
            for modality, fresh in (status.freshness.items() if status else ())
        )
        say(
            f"produced {self._tally.acknowledged}, searchable {searchable}, dead letters {dead_letters}"
            + (freshness and f"; {freshness}")
        )


def abilities_of(profile: Profile) -> Abilities:
    """Returns the abilities of a profile by which sample queries are chosen."""
    return Abilities(
        photographs=not _is_reference_tower(profile),
        multilingual=profile.languages is None or {"de", "zh"} <= set(profile.languages),
    )


def _is_reference_tower(profile: Profile) -> bool:
    return profile.joint_slug.startswith("reference_tower")


def _is_reference_speech(profile: Profile) -> bool:
    return isinstance(profile.speech, SpeechSpec) and profile.speech.name == "reference-whisper"


def _judge(query: SampleQuery, result: SearchResultJson) -> tuple[bool | None, str]:
    """Returns whether the answer is right, and a verdict in words; None where hits have no calibrated relevance."""
    if query.is_right is None:
        if all(hit.get("relevance") is None for hit in result["hits"]):
            return None, "nothing fits, and this profile has no calibration to judge it by"
        says_so = bool(result.get("nothing_found"))
        return says_so, "rightly: nothing fits well" if says_so else "does not say that nothing fits"
    rank = next((rank for rank, hit in enumerate(result["hits"], start=1) if query.is_right(hit)), None)
    return rank is not None, "no right answer" if rank is None else f"right answer at #{rank}"


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
