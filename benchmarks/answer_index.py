"""Indexes the demo's media and notes with planted facts in this process, and the questions on both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.broker.wire import encode_event
from penstock.cli.demo.samples import SOURCE, sample_events
from penstock.config import IngestSettings, Settings
from penstock.produce.items import OutgoingMessage
from penstock.records import Inline, Modality
from penstock.samples.texts import sample_texts
from penstock.store.memory import MemoryStore
from tools.examples.memory_index import MemoryIndex

_DATA = Path(__file__).with_name("answers_data")
IMAGES = 200  # of the demo's: enough to be among the hits, few enough to be encoded in seconds
TUNE, REPORT = "tune", "report"


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with its answer, or one that nothing in the index answers.

    Attributes:
        half: `tune` or `report`: whether constants may be chosen by it, or only figures reported.
        question: its words.
        source: the key of the asset that answers it; None: nothing does.
        answer: the ways in which a right answer may be written, any of which must occur in it.
    """

    half: str
    question: str
    source: str | None
    answer: tuple[str, ...]

    @property
    def answerable(self) -> bool:
        """Whether something in the index answers it."""
        return self.source is not None


def labelled_questions(half: str) -> list[LabelledQuestion]:
    """Returns the questions of one half, those with an answer first."""
    rows = [json.loads(line) for line in (_DATA / "questions.jsonl").read_text("utf-8").splitlines()]
    return [
        LabelledQuestion(row["half"], row["question"], row.get("source"), tuple(row.get("answer", ())))
        for row in rows
        if row["half"] == half
    ]


def index_settings(folder: Path, profile: str) -> Settings:
    """Returns settings that index all modalities with the models of a profile."""
    ingest = IngestSettings(modalities=tuple(Modality), min_free_disk_bytes=0)
    return Settings(profile=profile, data_dir=folder, ingest=ingest)


def build_index(settings: Settings) -> MemoryStore:
    """Returns a store with the demo's media and the notes, indexed by the steps of the ingest plane."""
    index = MemoryIndex(settings)
    index.add_messages(_notes(settings))
    index.add_messages(sample_events(settings, IMAGES, len(sample_texts()), packaged=False))
    return index.store


def _notes(settings: Settings) -> Iterator[OutgoingMessage]:
    topic = settings.kafka.topic_of(Modality.TEXT)
    for line in (_DATA / "notes.jsonl").read_text("utf-8").splitlines():
        note = json.loads(line)
        message = encode_event(
            topic=topic,
            key=note["key"],
            payload=Inline(note["text"].encode()),
            source=SOURCE,
            content_type="text/plain",
            tenant=settings.tenant,
            title=note["title"],
        )
        yield OutgoingMessage(note["key"], message)
