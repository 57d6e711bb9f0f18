"""The models that encode workers host: loaded at the start, or with the first item where `ingest.preload` is off.

Encoders of texts and images are loaded at the start in any case: canaries need them within seconds.
"""

from __future__ import annotations

from penstock.config import Settings
from penstock.cpus import usable_cpus
from penstock.encoders.base import Encoder, ImageToText, Transcriber
from penstock.encoders.profiles import SOUND_AUDIO, SPEECH, load_profile


def host_encoder(role: str, settings: Settings) -> Encoder:
    """Returns the encoder of a role. Raises as `load_encoder`, where it is loaded now."""
    from penstock.encoders.deferred import DeferredEncoder
    from penstock.encoders.load import fingerprint, load_encoder

    profile = load_profile(settings.profile)

    def load() -> Encoder:
        return load_encoder(
            role,
            profile,
            precision=settings.precision,
            device=settings.device,
            cache_size=settings.ingest.encoder_cache_size,
            threads=settings.ingest.encoder_threads or usable_cpus(),
        )

    if role != SOUND_AUDIO or settings.ingest.preloads:
        return load()
    return DeferredEncoder(role, profile.space(role), fingerprint(role, profile), load)


def host_transcriber(settings: Settings) -> Transcriber:
    """Returns the speech model. Raises as `load_transcriber`, where it is loaded now."""
    from penstock.encoders.deferred import DeferredTranscriber
    from penstock.encoders.load import load_transcriber, speech_fingerprint

    profile = load_profile(settings.profile)

    def load() -> Transcriber:
        return load_transcriber(
            profile,
            precision=settings.precision,
            device=settings.device,
            threads=settings.ingest.encoder_threads or usable_cpus(),
            language=settings.speech.language,
        )

    return load() if settings.ingest.preloads else DeferredTranscriber(SPEECH, speech_fingerprint(profile), load)


def host_image_to_text(role: str, settings: Settings) -> ImageToText:
    """Returns a model that gives the words of images. Raises as `load_image_to_text`, where it is loaded now."""
    from penstock.encoders.deferred import DeferredImageToText
    from penstock.encoders.load_image_text import image_text_fingerprint, load_image_to_text
    from penstock.encoders.ocr.options import OcrOptions

    profile, ocr = load_profile(settings.profile), settings.ocr

    def load() -> ImageToText:
        return load_image_to_text(
            role,
            profile,
            ocr=OcrOptions(ocr.glance_px, ocr.min_confidence, ocr.max_image_s),
            precision=settings.precision,
            device=settings.device,
            threads=settings.ingest.encoder_threads or usable_cpus(),
        )

    if settings.ingest.preloads:
        return load()
    return DeferredImageToText(role, image_text_fingerprint(role, profile), load)
