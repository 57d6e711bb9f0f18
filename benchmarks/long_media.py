"""A long recording beside a stream of clips: whether it keeps them waiting, and what memory it takes.

The clips stream at an even pace twice: alone, and while the recording is under way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np

from benchmarks.components import Component
from benchmarks.load_generator import LoadGenerator
from benchmarks.memory import MemoryWatch
from benchmarks.stack import LocalStack, running_stack, stack_settings, temporary_folder
from benchmarks.statistics import growth, quantile
from penstock.assembly import open_store
from penstock.broker.producer import MessageProducer
from penstock.broker.wire import encode_event
from penstock.errors import UnavailableError
from penstock.records import AssetRef, ClaimCheck, Float32, Modality
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.grammar import sentence
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

Reporter: TypeAlias = Callable[[str], None]

MINUTES = 120.0
_SEED = 31
_CLIP_S = 3.0
_DIFFERENT = 20  # clips; they repeat, as assets of their own
_PAUSES_S = (0.4, 2.5)  # between two sentences of the recording
_BIT_RATE = 24_000
_KEY = "the long recording"
_WARM_UP = 20  # clips
_BEGUN_S = 120.0
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class LongPlan:
    """The events of one run.

    Attributes:
        profile: with a speech model.
        minutes: that the recording lasts; it may take as long, and no longer.
        clips: of three seconds, each time.
        per_s: clips a second.
        threads: of the encoders and the transcriber; 0: every core.
    """

    profile: str
    minutes: float = MINUTES
    clips: int = 200
    per_s: float = 2.0
    threads: int = 0


def bench_long(plan: LongPlan, say: Reporter) -> dict[str, Any]:
    """Freshness of the clips alone and beside the recording, and the ingest plane's memory with it.

    Raises:
        PenstockError: something did not start, or was not indexed in time.
    """
    with temporary_folder() as folder, _bench(plan, folder, say) as bench:
        return bench.measure()


@contextmanager
def _bench(plan: LongPlan, folder: Path, say: Reporter) -> Iterator[_Bench]:
    """The media spoken, and a stack to take them in; gone afterwards."""
    media = folder / "media"
    media.mkdir()
    say(f"speaking for {plan.minutes:g} minutes")
    recording = _write(media / "long.ogg", _talk(plan.minutes * 60))
    clips = [_write(media / f"{number}.ogg", [_clip(number)]).read_bytes() for number in range(_DIFFERENT)]
    settings = stack_settings(
        folder,
        profile=plan.profile,
        store_uri=None,
        ingest={"modalities": (Modality.AUDIO,), "encoder_threads": plan.threads},
        fetch={"allow": ({"tenants": ("*",), "scheme": "file", "prefix": str(media)},)},
    )
    say(f"starting a whole Penstock with profile {plan.profile} in {folder}")
    with running_stack(settings) as stack:
        producer, store = MessageProducer(stack.settings.kafka), open_store(stack.settings.store)
        try:
            stream = LoadGenerator(producer, store, settings.kafka.audio_topic, settings.tenant)
            yield _Bench(plan, stack, stream, recording, clips, say)
        finally:
            producer.close(10.0)
            store.close()


@dataclass(slots=True)
class _Bench:
    """A stack, a recording and clips for it."""

    plan: LongPlan
    stack: LocalStack
    stream: LoadGenerator
    recording: Path
    clips: Sequence[bytes]
    report: Reporter
    _next: int = 0

    def measure(self) -> dict[str, Any]:
        self._paced(_WARM_UP)
        alone = self._paced(self.plan.clips)
        self.report(f"clips alone: {_told(alone)}")
        with MemoryWatch(self.stack, progress=lambda: round(self._indexed_s())) as watch:
            began_s = time.monotonic()
            self._begin()
            beside = self._paced(self.plan.clips)
            indexed_s = self._indexed_s()
            self.report(f"clips beside the recording: {_told(beside)}; {indexed_s / 60:.0f} minutes of it are indexed")
            if not self._under_way:
                raise UnavailableError("the recording was over before the clips were: take a longer one")
            self._await(lambda: not self._under_way, "the recording is indexed", self.plan.minutes * 60)
            took_s = time.monotonic() - began_s
        memory = [(second, by_part[Component.INGEST]) for second, by_part in watch.samples if second]
        return {
            "clips_alone_p50_s": quantile(alone, 0.5),
            "clips_alone_p95_s": quantile(alone, 0.95),
            "clips_beside_p50_s": quantile(beside, 0.5),
            "clips_beside_p95_s": quantile(beside, 0.95),
            "clips_ratio": quantile(beside, 0.95) / quantile(alone, 0.95),
            "long_minutes": self.plan.minutes,
            "long_took_s": took_s,
            "long_minutes_beside": indexed_s / 60,
            "long_peak_mb": watch.peak_mb(Component.INGEST),
            "long_memory_growth": growth(memory, 0, round(self.plan.minutes * 60)),
            "long_memory_mb": memory,
        }

    def _paced(self, count: int) -> list[float]:
        """Clips at the plan's pace; their freshness, seconds."""
        first, self._next = self._next, self._next + count
        return self.stream.send_paced(
            lambda number: self.clips[number % len(self.clips)], first=first, count=count, per_s=self.plan.per_s
        )

    def _begin(self) -> None:
        """Sends the recording and waits for its first slice, so that no clip is measured before it."""
        message = encode_event(
            topic=self.stream.topic, key=_KEY, payload=ClaimCheck(self.recording.as_uri()), source="penstock/bench"
        )
        self.stream.producer.send(message)
        self._await(lambda: self._under_way, "the recording is begun", _BEGUN_S)

    @property
    def _under_way(self) -> bool:
        return bool(self.stream.store.checkpoints([self._asset]))

    def _indexed_s(self) -> float:
        """Returns the indexed seconds of the long audio, until it is finished."""
        checkpoints = self.stream.store.checkpoints([self._asset])
        return sum(checkpoint.position.audio_ms for checkpoint in checkpoints.values()) / 1000

    @property
    def _asset(self) -> str:
        return AssetRef(self.stream.tenant, self.stream.topic, _KEY).id

    def _await(self, holds: Callable[[], bool], condition: str, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise UnavailableError(
                    f"did not come about within {timeout_s:.0f} s: {condition}; the log of ingest says why"
                )
            time.sleep(_LOOK_S)


def _told(seconds: Sequence[float]) -> str:
    return f"{len(seconds)}, fresh after {quantile(seconds, 0.5):.2f} s (p50), {quantile(seconds, 0.95):.2f} s (p95)"


def _clip(number: int) -> Float32:
    """A sentence and silence after it: float32[n]."""
    choose, length = random.Random(f"{_SEED}/{number}"), round(_CLIP_S * RATE_HZ)
    while len(samples := SpeechSynthesizer().synthesize(sentence(choose)).samples) > length:
        pass
    return np.pad(samples, (0, length - len(samples)))


def _talk(seconds: float) -> Iterator[Float32]:
    """Sentences with pauses between them."""
    choose, speaker, said_s = random.Random(_SEED), SpeechSynthesizer(), 0.0
    while said_s < seconds:
        speech = speaker.synthesize(sentence(choose)).samples
        part = np.pad(speech, (0, round(choose.uniform(*_PAUSES_S) * RATE_HZ)))
        said_s += len(part) / RATE_HZ
        yield part


def _write(file: Path, samples: Iterator[Float32] | Sequence[Float32]) -> Path:
    with av.open(str(file), "w") as container:
        track: Any = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        track.bit_rate = _BIT_RATE
        write_speech(container, track, samples)
    return file
