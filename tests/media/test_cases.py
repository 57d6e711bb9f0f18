"""Small files that a system of this kind easily gets wrong, each with what has to become of it.

`tests/cases/manifest.json` has the files with the topic that they are sent to and the type that they are declared as.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from penstock.config import ImageSettings, TextSettings
from penstock.encoders.base import ImageSpec, Tokenizer
from penstock.errors import BadInputError, Reason
from penstock.media.av.container import MediaFile
from penstock.media.av.reader import AVReader
from penstock.media.av.vad import VadOptions
from penstock.media.av.video import ShotOptions
from penstock.media.fetch import Fetcher
from penstock.media.image import decode_image
from penstock.media.text.passages import decode_text
from penstock.records import Event, FetchedMedia, Modality, UInt8

CASES = Path(__file__).parents[1] / "cases"
SPEC = ImageSpec(32, "squash", "bilinear", 0, (0.5,) * 3, (0.5,) * 3)


@dataclass(frozen=True, slots=True)
class Case:
    """A file of the manifest."""

    file: str
    modality: Modality
    declared: str | None


def _cases(folder: str) -> dict[str, Case]:
    manifest = json.loads((CASES / "manifest.json").read_text())
    return {
        Path(case["file"]).name: Case(
            case["file"], Modality(case["topic"].removeprefix("media.")), case["content_type"]
        )
        for case in manifest
        if case["file"].startswith(f"{folder}/")
    }


IMAGES, TIMED, TEXTS = _cases("img"), _cases("av"), _cases("text")

Fetch = Callable[[Case], FetchedMedia]


@pytest.fixture
def fetch(event_of: Callable[..., Event], fetcher_of: Callable[..., Fetcher]) -> Fetch:
    """Returns a function that sends a case to its topic, and fetches it as ingest does."""

    def run(case: Case) -> FetchedMedia:
        data = (CASES / case.file).read_bytes()
        return fetcher_of().fetch(event_of(data, modality=case.modality, declared=case.declared))

    return run


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in IMAGES if not name.endswith(".svg")])
def test_the_image_is_decoded(name: str, fetch: Fetch) -> None:
    pixels = decode_image(fetch(IMAGES[name]), spec=SPEC, settings=ImageSettings())
    assert 40 < pixels.mean() < 215
    assert pixels.std() > 20


def test_the_drawing_is_unsupported_under_its_own_name(fetch: Fetch) -> None:
    with pytest.raises(BadInputError, match=r"image/svg\+xml") as caught:
        fetch(IMAGES["svg_illustrator.svg"])
    assert caught.value.reason is Reason.UNSUPPORTED


def _decoded(fetch: Fetch, name: str) -> UInt8:
    return decode_image(fetch(IMAGES[name]), spec=SPEC, settings=ImageSettings())


def test_what_is_transparent_in_16_bits_is_white(fetch: Fetch) -> None:
    pixels = _decoded(fetch, "grey16_trns.png")
    assert (pixels[0] == 255).all()


def test_a_tiff_that_counts_from_white_begins_with_white(fetch: Fetch) -> None:
    rows = _decoded(fetch, "miniswhite16.tif").mean(axis=(1, 2))
    columns = _decoded(fetch, "miniswhite16.tif").mean(axis=(0, 2))
    assert max(rows[0] - rows[-1], columns[0] - columns[-1]) > 100


# --- audio and video -------------------------------------------------------------------------------------------------


def _read(media: FetchedMedia) -> tuple[int, list[UInt8]]:
    """Returns the milliseconds of speech, and the keyframes."""
    shots = ShotOptions() if media.event.modality is Modality.VIDEO else None
    reader = AVReader(media.data, VadOptions(), shots)
    try:
        chunk = reader.read()
    finally:
        reader.close()
    spoken = sum(window.samples.size for window in chunk.windows) // 16
    return spoken, [np.asarray(shot.keyframe) for shot in chunk.shots]


@pytest.mark.parametrize("name", [name for name, case in TIMED.items() if case.modality is Modality.AUDIO])
def test_the_recording_is_heard(name: str, fetch: Fetch) -> None:
    spoken_ms, _ = _read(fetch(TIMED[name]))
    assert spoken_ms > 1_000


@pytest.mark.parametrize("name", [name for name, case in TIMED.items() if case.modality is Modality.VIDEO])
def test_the_film_has_frames(name: str, fetch: Fetch) -> None:
    _, frames = _read(fetch(TIMED[name]))
    assert frames


def test_the_track_flagged_as_default_is_heard(fetch: Fetch) -> None:
    file = MediaFile(fetch(TIMED["two_tracks_default_second.mkv"]).data)
    try:
        track = file.audio_stream()
        assert track is not None
        assert track.index == 2
    finally:
        file.close()


# --- texts -----------------------------------------------------------------------------------------------------------

FOUND = {
    "iso2022jp.html": "今日は天気がとても良いです。公園へ散歩に行きました。",
    "iso2022jp_undeclared.txt": "今日は天気がとても良いです。公園へ散歩に行きました。",
    "xsjis.html": "良い天気",
    "windows874.html": "อากาศดีมาก",
    "iso88598i.html": "מזג האוויר",
    "utf16le_zh.txt": "今天天气很好。我们去公园散步",
    "utf16le_ru.txt": "Сегодня",
    "ru_late_meta.html": "Привет мир",
    "starts_like_caffeine.txt": "caffeine after noon keeps most people awake at night",
    "starts_like_id3.txt": "ID3 tags hold the title and the artist of a song",
    "starts_like_gif.txt": "GIF89a introduced transparency to pictures on the web",
    "starts_like_netpbm.txt": "P1 100 200 metres were run by the athletes",
    "starts_like_ftyp.txt": "The ftyp box names the brand of an MP4 file",
    "starts_like_snd.txt": ".snd files come from NeXT",
    "starts_like_pdf.txt": "%PDF-1.4 is how a PDF begins",
    "frontmatter.md": "It dives in the Isar.",
    "shy.html": "Donaudampfschiffahrtsgesellschaft",
    "nfd.txt": "Überfluß",
}
NEVER = {"pl_8859-2.txt": "¶", "hu_8859-2.txt": "õ", "tr_cp1254.srt": "ý", "frontmatter.md": "date:"}
UNSUPPORTED = {
    "note.rtf": "application/rtf",
    "logo.eps": "application/postscript",
    "illustrator.svg": "image/svg+xml",
    "raw_sensor.bin": "octet-stream",
}


def test_every_text_of_the_manifest_has_an_outcome_here() -> None:
    assert set(TEXTS) == {*FOUND, *NEVER, *UNSUPPORTED}


@pytest.mark.parametrize("name", sorted({*FOUND, *NEVER}))
def test_the_text_has_its_letters(name: str, fetch: Fetch, tokenizer: Tokenizer) -> None:
    document = decode_text(fetch(TEXTS[name]), settings=TextSettings(), tokenizer=tokenizer)
    assert FOUND.get(name, "") in document.text
    assert name not in NEVER or NEVER[name] not in document.text


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_no_text_is_unsupported_under_its_own_name(name: str, fetch: Fetch) -> None:
    with pytest.raises(BadInputError) as caught:
        fetch(TEXTS[name])
    assert caught.value.reason is Reason.UNSUPPORTED
    assert UNSUPPORTED[name] in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_titles_are_those_that_a_reader_sees(fetch: Fetch, tokenizer: Tokenizer) -> None:
    titles = {
        name: decode_text(fetch(TEXTS[name]), settings=TextSettings(), tokenizer=tokenizer).title
        for name in ("frontmatter.md", "xsjis.html")
    }
    assert titles == {"frontmatter.md": "The cormorant dives", "xsjis.html": "天気"}
