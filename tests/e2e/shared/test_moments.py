"""Finds the moments of known scenes and sentences in audio and video files of every container, at their times."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.client import PenstockClient
from penstock.records import Float32
from penstock.samples.images import Concept, compose, load_concepts
from tests.e2e.stack import Stack
from tests.media.media_files import write_audio, write_video
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

TENANT = "moments"
_NEAR_MS = 1_000
_PAUSE_S = 1.8  # before and after each sentence: so that it is a passage of its own
_INDEX_SEED, _QUERY_SEED = 3, 77  # of the backgrounds of images
_WITHIN = 3  # hits

# The concepts and sentences of each container; an audio file has no concept. The reference image model knows them well.
CONTENTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "video.mp4": (
        ("trumpet", "the young dolphin and the quiet whale hides again"),
        ("elephant", "my brother repairs the compass and the kite"),
    ),
    "video.webm": (
        ("penguin", "today the camel waits at the church"),
        ("balloon", "the teacher carries a green pencil"),
    ),
    "video.mkv": (
        ("turtle", "there is a dragon in the factory"),
        ("giraffe", "a hungry bear sleeps under the bridge"),
    ),
    "talk.mp3": (("", "the black feather is behind the hospital"), ("", "my sister sells the tomato and the lemon")),
    "talk.flac": (("", "in the garden a white swan dances"), ("", "the captain finds a silver crown")),
    "talk.ogg": (
        ("", "the frog runs with the goat tonight"),
        ("", "tomorrow my doctor paints a guitar at the station"),
    ),
    "talk.wav": (("", "the volcano is near the island"), ("", "a farmer with a blue drum walks in the desert")),
    "talk.m4a": (
        ("", "there is a broken rocket beside the golden bell"),
        ("", "the eagle waits with the snake always"),
    ),
}


@dataclass(frozen=True)
class ExpectedMoment:
    """An expected moment; times in milliseconds."""

    key: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class SampleFile:
    """A file with its sentences by their words and its scenes by their concept."""

    file: Path
    sentences: Mapping[str, ExpectedMoment]
    scenes: Mapping[str, ExpectedMoment]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Sequence[SampleFile]:
    folder = tmp_path_factory.mktemp("recordings")
    return [_made(folder / name, contents) for name, contents in CONTENTS.items()]


@pytest.fixture(scope="module", autouse=True)
def indexed(stack: Stack, recordings: Sequence[SampleFile]) -> None:
    """Has the recordings indexed, for a tenant of their own."""
    stack.json("produce", *map(str, {sample.file.parent for sample in recordings}), "--tenant", TENANT)
    stack.settle()


def test_sentences_are_found_by_words(stack: Stack, recordings: Sequence[SampleFile]) -> None:
    for sample in recordings:
        for words, moment in sample.sentences.items():
            _check(words, moment, stack.search(words, limit=_WITHIN, tenant=TENANT))


def test_sentences_are_found_by_voice(stack: Stack, recordings: Sequence[SampleFile], tmp_path: Path) -> None:
    for sample in recordings:
        for words, moment in sample.sentences.items():
            query = write_audio(tmp_path / "question.wav", SpeechSynthesizer().synthesize(words).samples).read_bytes()
            hits = stack.search(audio=base64.b64encode(query).decode(), limit=_WITHIN, tenant=TENANT)
            _check(f"voice: {words}", moment, hits)


def test_scenes_are_found_by_image(stack: Stack, recordings: Sequence[SampleFile], tmp_path: Path) -> None:
    for sample in recordings:
        for concept_id, moment in sample.scenes.items():
            file = tmp_path / "question.png"
            compose(_concept(concept_id), _QUERY_SEED, 256).convert("RGB").save(file)
            hits = stack.search(image=base64.b64encode(file.read_bytes()).decode(), limit=_WITHIN, tenant=TENANT)
            _check(f"image of {concept_id}", moment, hits)


def test_a_moment_is_shown_and_played(stack: Stack, recordings: Sequence[SampleFile]) -> None:
    """Each passage of a video has the frame of its time and captions, and its file is read in parts."""
    video = next(sample for sample in recordings if sample.scenes)
    with PenstockClient(stack.endpoints.query_url, tenant=TENANT) as penstock:
        for (words, moment), scene in zip(video.sentences.items(), video.scenes.values(), strict=True):
            (hit,) = penstock.search(words, filter={"key": _key(video.file)}, limit=1)["hits"]
            media = hit["media_url"]
            assert media is not None
            with Image.open(io.BytesIO(penstock.thumbnail(hit["id"], width_px=160)), formats=["JPEG"]) as small:
                assert small.size == (160, 160)
            frames = [entry for entry in penstock.entries(media) if entry["collection"] == "frame"]
            assert any(abs(frame["start_ms"] - scene.start_ms) <= _NEAR_MS for frame in frames)
            captions = penstock.captions(media)
            cues = re.findall(r"^(\d+):(\d+):(\d+)\.(\d+) --> ", captions, re.MULTILINE)
            starts_ms = [((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms) for h, m, s, ms in cues]
            assert min(abs(start_ms - moment.start_ms) for start_ms in starts_ms) <= _NEAR_MS
            data = video.file.read_bytes()
            assert penstock.media(media, start=1_000, end=2_000) == data[1_000:2_000]
            assert b"".join(penstock.media_pieces(media)) == data


def _check(query: str, expected: ExpectedMoment, hits: Sequence[Mapping[str, Any]]) -> None:
    """Checks that one of the hits is that moment of that file, to within a second at both ends."""
    moments = [(hit["key"], hit["moment"]["start_ms"], hit["moment"]["end_ms"]) for hit in hits if hit["moment"]]
    assert any(
        key == expected.key
        and abs(start_ms - expected.start_ms) <= _NEAR_MS
        and abs(end_ms - expected.end_ms) <= _NEAR_MS
        for key, start_ms, end_ms in moments
    ), (query, expected, moments)


def _made(file: Path, contents: Sequence[tuple[str, str]]) -> SampleFile:
    at, samples = 0, list[Float32]()
    sentences, scenes = dict[str, ExpectedMoment](), dict[str, ExpectedMoment]()
    scenes_shown = []
    for concept_id, words in contents:
        lead = round(_PAUSE_S * RATE_HZ)
        speech = SpeechSynthesizer().synthesize(words).samples
        part = np.pad(speech, (lead, lead + -(len(speech) + 2 * lead) % (RATE_HZ // 10)))  # whole video frames
        sentences[words] = ExpectedMoment(_key(file), _ms(at + lead), _ms(at + lead + len(speech)))
        if concept_id:
            scenes[concept_id] = ExpectedMoment(_key(file), _ms(at), _ms(at + len(part)))
            image = compose(_concept(concept_id), _INDEX_SEED, 256).convert("RGB")
            scenes_shown.append((len(part) / RATE_HZ, image))
        samples.append(part)
        at += len(part)
    audio = np.concatenate(samples)
    if scenes_shown:
        return SampleFile(write_video(file, scenes_shown, audio=audio), sentences, scenes)
    return SampleFile(write_audio(file, audio), sentences, scenes)


def _key(file: Path) -> str:
    """Returns the key that `penstock produce` gives to a file of a folder."""
    return f"{file.parent.name}/{file.name}"


def _concept(concept_id: str) -> Concept:
    return next(concept for concept in load_concepts() if concept.id == concept_id)


def _ms(samples: int) -> int:
    return round(samples * 1000 / RATE_HZ)
