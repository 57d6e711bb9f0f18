"""The images that a vision model gets: scaled, bare, bounded, and never by their address."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image

from penstock.config import GenerateSettings, ImageSettings
from penstock.errors import BadInputError, UnavailableError
from penstock.query.executor import BoundedExecutor
from penstock.query.generate.images import PromptImages, scaled_jpeg
from penstock.query.generate.prompt import build_prompt
from penstock.query.generate.types import Source
from penstock.query.parts.images import EntryImage
from penstock.query.types import Hit, Moment
from penstock.records import AssetRef, Collection, Entry, bare_entry

LIMITS = ImageSettings()
SETTINGS = GenerateSettings(vision=True, max_images=2, image_side=64)


def picture(width: int = 200, height: int = 100, **saved: object) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(data, "JPEG", **saved)
    return data.getvalue()


def opened(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg), formats=["JPEG"])


class Entries:
    """Holds images by the key of their asset; notes what was read."""

    def __init__(self, images: dict[str, bytes | Exception]) -> None:
        self.images = images
        self.read_keys: list[str] = []

    def read(self, entry: Entry, timeout_s: float) -> EntryImage:
        assert timeout_s > 0
        self.read_keys.append(entry.asset.key)
        image = self.images[entry.asset.key]
        if isinstance(image, Exception):
            raise image
        return EntryImage(image, "stored media")


def source(number: int, collection: Collection = Collection.IMAGE, frame: Entry | None = None) -> Source:
    entry = replace(
        bare_entry(AssetRef("default", "media", str(number)), collection), uri="https://intranet.example/secret.jpg"
    )
    moment = None if collection is not Collection.SPEECH else Moment(0, 1, (), frame)
    return Source(number, Hit(entry, 1.0, (), moment), "A heron.")


def add(
    entries: Entries, sources: Sequence[Source], images: Sequence[bytes] = (), settings: GenerateSettings = SETTINGS
) -> tuple[tuple[Source, ...], tuple[bytes, ...]]:
    executor = BoundedExecutor(threads=2, queue_size=20, clock=time.monotonic, calls="images", retry_after_s=1)
    prompt_images = PromptImages(entries, executor, settings, LIMITS)
    return asyncio.run(prompt_images.add(sources, images, timeout_s=10))


def test_an_image_is_scaled_and_loses_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    exif[0x010F] = "a camera at a secret place"
    jpeg = scaled_jpeg(picture(exif=exif), side=64, quality=80, limits=LIMITS)
    assert opened(jpeg).size == (32, 64)
    assert not opened(jpeg).getexif()
    assert b"secret" not in jpeg
    assert opened(scaled_jpeg(picture(20, 10), side=64, quality=80, limits=LIMITS)).size == (20, 10)
    png = io.BytesIO()
    Image.new("RGBA", (300, 300)).save(png, "PNG")
    assert opened(scaled_jpeg(png.getvalue(), side=64, quality=80, limits=LIMITS)).getpixel((0, 0)) == (255, 255, 255)


def test_what_is_no_image_or_too_large_is_refused() -> None:
    with pytest.raises(BadInputError):
        scaled_jpeg(b"<svg onload=alert(1)>", side=64, quality=80, limits=LIMITS)
    with pytest.raises(BadInputError, match="max_pixels"):
        scaled_jpeg(picture(), side=64, quality=80, limits=ImageSettings(max_pixels=100))


def test_the_images_of_the_question_come_first_and_then_those_of_the_best_sources() -> None:
    entries = Entries({str(number): picture() for number in range(9)})
    text = source(1, Collection.TEXT)
    sources, images = add(entries, [text, source(2), source(3)], [picture()])
    assert [opened(image).size for image in images] == [(64, 32)]
    assert [result.image is not None for result in sources] == [False, True, False]
    assert entries.read_keys == ["2"]
    assert [result.hit for result in sources] == [text.hit, source(2).hit, source(3).hit]


def test_of_a_moment_its_frame_is_seen() -> None:
    frame = bare_entry(AssetRef("default", "media", "film"), Collection.FRAME)
    entries = Entries({"film": picture()})
    sources, _ = add(entries, [source(1, Collection.SPEECH, frame), source(2, Collection.SPEECH)])
    assert [result.image is not None for result in sources] == [True, False]


def test_an_image_that_cannot_be_read_leaves_its_words() -> None:
    entries = Entries({"1": UnavailableError("the store is down"), "2": b"no image"})
    sources, images = add(entries, [source(1), source(2)], [b"no image"])
    assert [result.image for result in sources] == [None, None]
    assert images == ()


def test_a_model_that_sees_nothing_costs_no_reading() -> None:
    entries = Entries({})
    sources, images = add(entries, [source(1)], [picture()], GenerateSettings(max_images=2))
    assert sources == (source(1),)
    assert images == ()
    assert entries.read_keys == []


def test_the_prompt_has_no_address_of_an_image() -> None:
    sources, images = add(Entries({"1": picture()}), [source(1)])
    content = str(build_prompt("What is it?", sources, SETTINGS, images=images).messages)
    assert "data:image/jpeg;base64," in content
    assert "intranet" not in content
    assert "://" not in content
