"""Films and recordings of every container with known scenes and sentences: the moments are found, when they are."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.broker.base import Message
from penstock.records import Float32
from penstock.samples.images import Concept, compose, load_concepts
from tests.e2e.stack import Stack
from tests.media.media_files import write_audio, write_video
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

AUDIO, VIDEO = "media.audio", "media.video"
_NEAR_MS = 1_000
_PAUSE_S = 1.8  # before and after each sentence: so that it is a passage of its own
_SHOWN_SEED, _ASKED_SEED = 3, 77  # of the backgrounds of pictures
_WITHIN = 3  # hits

# Of each container what is shown, if anything, and what is said. Things that the reference image tower knows well.
CONTENTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "film.mp4": (
        ("trumpet", "the young dolphin and the quiet whale hides again"),
        ("elephant", "my brother repairs the compass and the kite"),
    ),
    "film.webm": (
        ("penguin", "today the camel waits at the church"),
        ("balloon", "the teacher carries a green pencil"),
    ),
    "film.mkv": (
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
class Happening:
    """What is to be found, and when: milliseconds."""

    key: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Made:
    """A file, and what happens in it: sentences by their words, scenes by their concept."""

    file: Path
    sentences: Mapping[str, Happening]
    scenes: Mapping[str, Happening]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Made]:
    folder = tmp_path_factory.mktemp("recordings")
    return [_made(folder / name, contents) for name, contents in CONTENTS.items()]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, recordings: Sequence[Made]) -> Iterator[Stack]:
    environment = {
        "PENSTOCK_PROFILE": "reference",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_INGEST__MODALITIES": json.dumps(["audio", "video"]),
    }
    found = Stack(tmp_path_factory.mktemp("stack") / "data", environment)
    try:
        found.start()
        found.produce(
            [
                Message(VIDEO if made.scenes else AUDIO, made.file.name.encode(), made.file.read_bytes())
                for made in recordings
            ]
        )
        found.settle()
        yield found
    finally:
        found.close()


def test_sentences_are_found_by_words(stack: Stack, recordings: Sequence[Made]) -> None:
    for made in recordings:
        for words, happening in made.sentences.items():
            _check(words, happening, stack.search(words, limit=_WITHIN))


def test_sentences_are_found_by_voice(stack: Stack, recordings: Sequence[Made], tmp_path: Path) -> None:
    for made in recordings:
        for words, happening in made.sentences.items():
            asked = write_audio(tmp_path / "question.wav", SpeechSynthesizer().synthesize(words).samples).read_bytes()
            hits = stack.search(audio=base64.b64encode(asked).decode(), limit=_WITHIN)
            _check(f"voice: {words}", happening, hits)


def test_scenes_are_found_by_picture(stack: Stack, recordings: Sequence[Made], tmp_path: Path) -> None:
    for made in recordings:
        for concept_id, happening in made.scenes.items():
            file = tmp_path / "question.png"
            compose(_concept(concept_id), _ASKED_SEED, 256).convert("RGB").save(file)
            hits = stack.search(image=base64.b64encode(file.read_bytes()).decode(), limit=_WITHIN)
            _check(f"picture of {concept_id}", happening, hits)


def _check(asked: str, wanted: Happening, hits: Sequence[Mapping[str, Any]]) -> None:
    """That one of the hits is that moment of that recording, to within a second at both ends."""
    found = [(hit["key"], hit["moment"]["start_ms"], hit["moment"]["end_ms"]) for hit in hits if hit["moment"]]
    assert any(
        key == wanted.key and abs(start_ms - wanted.start_ms) <= _NEAR_MS and abs(end_ms - wanted.end_ms) <= _NEAR_MS
        for key, start_ms, end_ms in found
    ), (asked, wanted, found)


def _made(file: Path, contents: Sequence[tuple[str, str]]) -> Made:
    at, samples = 0, list[Float32]()
    sentences, scenes = dict[str, Happening](), dict[str, Happening]()
    shown = []
    for concept_id, words in contents:
        lead = round(_PAUSE_S * RATE_HZ)
        said = SpeechSynthesizer().synthesize(words).samples
        part = np.pad(said, (lead, lead + -(len(said) + 2 * lead) % (RATE_HZ // 10)))  # whole frames of film
        sentences[words] = Happening(file.name, _ms(at + lead), _ms(at + lead + len(said)))
        if concept_id:
            scenes[concept_id] = Happening(file.name, _ms(at), _ms(at + len(part)))
            picture = compose(_concept(concept_id), _SHOWN_SEED, 256).convert("RGB")
            shown.append((len(part) / RATE_HZ, picture))
        samples.append(part)
        at += len(part)
    sound = np.concatenate(samples)
    if shown:
        return Made(write_video(file, shown, audio=sound), sentences, scenes)
    return Made(write_audio(file, sound), sentences, scenes)


def _concept(concept_id: str) -> Concept:
    return next(concept for concept in load_concepts() if concept.id == concept_id)


def _ms(samples: int) -> int:
    return round(samples * 1000 / RATE_HZ)
