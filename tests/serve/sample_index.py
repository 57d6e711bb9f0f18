"""A small index of texts and images with null encoders, for tests of the HTTP API."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from penstock.config import Settings
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from penstock.query.understand.image import query_image_decoder
from penstock.records import (
    DEFAULT_LABEL,
    AssetRef,
    Collection,
    EncoderInput,
    Entry,
    Field,
    Float32,
    Position,
    bare_entry,
)
from penstock.serve.plane import QueryPlane

PROFILE = load_profile("null:32")
TEXTS = ("a cat on a mat", "a dog in the fog", "bread and butter for breakfast")
PROBLEM = "application/problem+json"


def png(shade: int) -> bytes:
    """Returns a plain grey image; null encoders distinguish every shade from the others."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, shade, shade)).save(out, "PNG")
    return out.getvalue()


IMAGES = {"dawn": png(40), "noon": png(250)}


def vector(role: str, item: str | bytes, settings: Settings) -> Float32:
    """Returns the embedding of a text or an encoded image, float32[32]."""
    encoder = load_encoder(role, PROFILE)
    if isinstance(item, bytes):
        pixels = query_image_decoder(PROFILE.image, settings.image)(item, None)
        return encoder.encode(EncoderInput(JOINT_IMAGE, ("k",), pixels=pixels[np.newaxis])).vectors[0]
    return encoder.encode(EncoderInput(role, ("k",), texts=(item,))).vectors[0]


def entry(collection: Collection, key: str, *, tenant: str = "default", **fields: Any) -> Entry:
    """Returns an entry, by default of an asset of its own."""
    asset = fields.pop("asset", AssetRef(tenant, f"media.{collection}", key))
    defaults: dict[str, Any] = {
        "title": key,
        "uri": f"file:///media/{key}",
        "mime": "text/plain",
        "event_time_ms": 1_767_225_600_000,
        "indexed_at_ms": 1_767_225_601_250,
        "origin": Position(asset.topic, 3, 17),
        "acl": (DEFAULT_LABEL,),
    }
    return replace(bare_entry(asset, collection), **{**defaults, **fields})


def fill(plane: QueryPlane) -> None:
    """Writes three texts, one of them of another tenant, and two images that are in the asset store."""
    settings = plane.settings
    texts = [
        entry(
            Collection.TEXT,
            text.split()[1],
            tenant="acme" if "dog" in text else "default",
            text=text,
            attributes_json='{"lines": 1}',
            end_char=len(text),
            vectors={
                Field.PASSAGE: vector("passage.text", text, settings),
                Field.JOINT: vector("joint.text", text, settings),
            },
        )
        for text in TEXTS
    ]
    plane.store.upsert(Collection.TEXT, texts)
    images = [
        entry(
            Collection.IMAGE,
            key,
            mime="image/png",
            uri=f"asset:{plane.assets.put(data)}",  # type: ignore[attr-defined]
            vectors={Field.JOINT: vector(JOINT_IMAGE, data, settings)},
        )
        for key, data in IMAGES.items()
    ]
    plane.store.upsert(Collection.IMAGE, images)


def raising(error: Exception) -> Callable[..., Any]:
    """Returns a function that raises the error, whatever its arguments."""

    def raise_error(*_: Any, **__: Any) -> Any:
        raise error

    return raise_error
