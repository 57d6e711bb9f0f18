"""Composes transcripts into passages of speech, the last part of decoding a segment of timed media."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.encoders.profiles import PASSAGE_TEXT, SPEECH
from penstock.errors import Reason
from penstock.media.av.transcript import PassageOptions, SpeechPassage, join_segments
from penstock.media.decode import EncoderInputs, EncoderItem
from penstock.records import (
    Checkpoint,
    Collection,
    Decoded,
    EncoderInput,
    Event,
    FastPickle,
    Field,
    PendingEntry,
    Rejected,
    Transcript,
)

LANGUAGE_ATTRIBUTE = "speech_language"


@dataclass(frozen=True, slots=True)
class SegmentSpeech(FastPickle):
    """The speech of one event's segment, before it is transcribed.

    Attributes:
        event: one of the indexable ones.
        mime, uri: of its media.
        windows: for each the row in the speech model's input, and its start, milliseconds.
        counts_before: entries of earlier segments, by collection.
        frames: entries of this segment's shots.
        finished: its media have been read to their end.
    """

    event: Event
    mime: str
    uri: str
    windows: tuple[tuple[int, int], ...]
    counts_before: Mapping[Collection, int]
    frames: int
    finished: bool

    @property
    def has_no_other_entry(self) -> bool:
        """Whether the media have ended with no entry other than those of this segment's speech."""
        earlier = self.counts_before.get(Collection.SPEECH, 0) + self.counts_before.get(Collection.FRAME, 0)
        return self.finished and not self.frames and not earlier


@dataclass(frozen=True, slots=True)
class DecodedSegments(FastPickle):
    """A segment of each event of a batch, before its speech is transcribed.

    Attributes:
        decoded: the batch; its pending entries are those of shots only.
        speech: the speech of each indexable event.
    """

    decoded: Decoded
    speech: tuple[SegmentSpeech, ...]


def compose(
    segments: DecodedSegments, transcripts: Sequence[Transcript], options: PassageOptions
) -> tuple[Decoded, EncoderInput]:
    """Adds the passages of speech to a batch, and returns it with the input of the sentence encoder.

    An asset without speech and without shots has one entry, so that its title can be searched. An asset with a window
    on which the speech model fails is rejected as a whole.

    Args:
        segments: the batch.
        transcripts: those of the windows, by row.
        options: limits of a passage.
    """
    decoded, inputs = segments.decoded, EncoderInputs()
    pending = list(decoded.pending)
    rejected = list(decoded.rejected)
    speech_counts: dict[str, int] = {}  # by asset: entries of speech
    failed: set[str] = set()
    for speech in segments.speech:
        asset_id = speech.event.asset.id
        failures = [transcripts[row].failed for row, _ in speech.windows if transcripts[row].failed]
        if failures:
            failed.add(asset_id)
            detail = f"{speech.event.asset}: {SPEECH}: {failures[0]}"
            rejected.append(Rejected(speech.event.position, "encode", Reason.ENCODER_FAILED, detail))
            continue
        entries = _speech_entries(speech, transcripts, options, inputs)
        speech_counts[asset_id] = len(entries)
        pending += entries
    checkpoints = [checkpoint for checkpoint in decoded.checkpoints if checkpoint.asset.id not in failed]
    return (
        Decoded(
            tuple(event for event in decoded.indexable if event.asset.id not in failed),
            decoded.tombstones,
            tuple(entry for entry in pending if entry.event.asset.id not in failed),
            tuple(rejected),
            tuple(_with_speech(checkpoint, speech_counts[checkpoint.asset.id]) for checkpoint in checkpoints),
        ),
        inputs.by_encoder().get(PASSAGE_TEXT, EncoderInput(PASSAGE_TEXT, ())),
    )


def _speech_entries(
    speech: SegmentSpeech, transcripts: Sequence[Transcript], options: PassageOptions, inputs: EncoderInputs
) -> list[PendingEntry]:
    timed = [
        SpeechPassage(
            start_ms + round(segment.start_s * 1000),
            start_ms + round(segment.end_s * 1000),
            segment.text,
            transcripts[row].language,
        )
        for row, start_ms in speech.windows
        for segment in transcripts[row].segments
    ]
    passages = list(join_segments(timed, options))
    if not passages and speech.has_no_other_entry:
        passages = [SpeechPassage(0, 0, "", "")]
    first_part = speech.counts_before.get(Collection.SPEECH, 0)
    return [_pending_entry(speech, part, passage, inputs) for part, passage in enumerate(passages, first_part)]


def _pending_entry(speech: SegmentSpeech, part: int, passage: SpeechPassage, inputs: EncoderInputs) -> PendingEntry:
    text = passage.text or speech.event.title or speech.event.asset.key
    row = inputs.row(PASSAGE_TEXT, EncoderItem(hashlib.sha256(text.encode()).hexdigest(), text))
    return PendingEntry(
        speech.event,
        Collection.SPEECH,
        part,
        speech.mime,
        speech.uri,
        text=passage.text,
        start_ms=passage.start_ms,
        end_ms=passage.end_ms,
        attributes_json=_with_language(speech.event.attributes_json, passage.language),
        vectors=((Field.PASSAGE, PASSAGE_TEXT, row),),
    )


def _with_language(attributes_json: str, language: str) -> str:
    """Adds the language of the speech to an event's attributes. A producer's own attribute of that name stays."""
    if not language:
        return ""
    attributes = {LANGUAGE_ATTRIBUTE: language} | json.loads(attributes_json or "{}")
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))


def _with_speech(checkpoint: Checkpoint, speech_count: int) -> Checkpoint:
    counts = dict(checkpoint.counts)
    counts[Collection.SPEECH] = counts.get(Collection.SPEECH, 0) + speech_count
    return replace(checkpoint, counts={collection: count for collection, count in counts.items() if count})
