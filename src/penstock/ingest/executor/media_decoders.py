"""Makes the decoders of long media, and selects the models that read the images of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from penstock.assembly import open_assets
from penstock.config import Settings
from penstock.encoders.base import Tokenizer
from penstock.encoders.profiles import CAPTION, OCR, SOUND_AUDIO, Profile

if TYPE_CHECKING:  # each process imports what its own worker needs
    from penstock.media.segments.decoder import SegmentDecoder
    from penstock.media.segments.documents import DocumentDecoder

CAPTION_SIDE_PX = 512  # models of captions reduce an image to 224 to 480 px themselves


def make_document_decoder(settings: Settings, profile: Profile, tokenizer: Tokenizer) -> DocumentDecoder:
    """Returns a decoder of documents."""
    from penstock.assets import asset_uri
    from penstock.media.segments.documents import DocumentDecoder

    assets = open_assets(settings)
    return DocumentDecoder(
        documents=settings.documents,
        text=settings.text,
        long_media=settings.long_media,
        image_spec=profile.image,
        tokenizer=tokenizer,
        joint_text_encoder=profile.joint_text_encoder,
        image_texts=image_text_sides(settings, profile),
        put_thumbnail=lambda data: asset_uri(assets.put(data)),
    )


def make_segment_decoder(settings: Settings, profile: Profile) -> SegmentDecoder:
    """Returns a decoder of audio and video."""
    from penstock.assets import asset_uri
    from penstock.encoders.load import fingerprint, speech_fingerprint
    from penstock.media.av.sound import SoundOptions
    from penstock.media.segments.decoder import SegmentDecoder
    from penstock.media.segments.settings_hash import settings_hash

    assets = open_assets(settings)
    sound = None if profile.sound is None else SoundOptions(profile.sound.window_ms, profile.sound.hop_ms)
    return SegmentDecoder(
        speech=settings.speech,
        video=settings.video,
        long_media=settings.long_media,
        image_spec=profile.image,
        put_thumbnail=lambda data: asset_uri(assets.put(data)),
        settings_hash=settings_hash(
            settings.speech,
            settings.video,
            profile.image,
            speech_fingerprint(profile),
            None if sound is None else (fingerprint(SOUND_AUDIO, profile), sound),
        ),
        sound=sound,
        folder=settings.data_dir / "open",
    )


def image_text_roles(settings: Settings, profile: Profile) -> tuple[str, ...]:
    """Returns the roles of the models that give the words of images: those of the profile that are switched on."""
    reads = profile.ocr is not None and settings.ocr.enabled
    return (*((OCR,) if reads else ()), *((CAPTION,) if profile.caption is not None else ()))


def image_text_sides(settings: Settings, profile: Profile) -> Mapping[str, int]:
    """Returns the longer side of the images that each of these models takes, pixels."""
    return {role: _image_side_px(role, settings) for role in image_text_roles(settings, profile)}


def _image_side_px(role: str, settings: Settings) -> int:
    return settings.ocr.max_side_px if role == OCR else CAPTION_SIDE_PX
