"""Loads the models that give an image's words, and computes their fingerprints."""

from __future__ import annotations

from penstock.encoders.base import Fingerprint, ImageToText
from penstock.encoders.ocr.options import OcrOptions
from penstock.encoders.profiles import CAPTION, OCR, CaptionSpec, OcrSpec, Profile
from penstock.encoders.weights import RandomWeights, Source, locate, short_digest, weights_digest
from penstock.errors import ConfigError


def load_image_to_text(
    role: str,
    profile: Profile,
    *,
    ocr: OcrOptions,
    precision: str = "auto",
    device: str = "auto",
    threads: int = 1,
) -> ImageToText:
    """Loads one model that gives an image's words into this process.

    Args:
        role: `ocr` or `caption`.
        profile: names the models.
        ocr: limits of reading.
        precision, device: of the caption model, as for `load_encoder`; OCR runs on the CPU.
        threads: CPU threads.

    Raises:
        ConfigError: the profile has no such role, its weights or the device are not available.
        UnavailableError: the hub does not answer.
    """
    spec = _spec(role, profile)
    identity = image_text_fingerprint(role, profile)
    if isinstance(spec, OcrSpec):
        from penstock.encoders.ocr.pp_ocr import PpOcr

        assert not isinstance(spec.detector, RandomWeights)
        assert not isinstance(spec.recogniser, RandomWeights)
        detector, recogniser = locate(spec.detector, spec.name), locate(spec.recogniser, spec.name)
        return PpOcr(detector.weights, recogniser.weights, identity, ocr, threads=threads)
    from penstock.encoders.caption import load_captioner

    return load_captioner(spec, identity, precision=precision, device=device, threads=threads)


def image_text_fingerprint(role: str, profile: Profile) -> Fingerprint:
    """Returns what identifies such a model. Arguments and errors as `load_image_to_text`."""
    spec = _spec(role, profile)
    if isinstance(spec, OcrSpec):
        weights = short_digest(weights_digest(spec.detector, spec.name), weights_digest(spec.recogniser, spec.name))
        return Fingerprint(spec.name, weights, short_digest("pp-ocr"))
    return Fingerprint(spec.name, weights_digest(spec.source, spec.name), short_digest(str(spec.max_tokens)))


def image_text_sources(profile: Profile) -> tuple[tuple[str, str, Source], ...]:
    """Returns role, model and source of each file of weights of these models."""
    rows: list[tuple[str, str, Source]] = []
    if profile.ocr is not None:
        rows += [
            (OCR, f"{profile.ocr.name} detector", profile.ocr.detector),
            (OCR, f"{profile.ocr.name} recogniser", profile.ocr.recogniser),
        ]
    if profile.caption is not None:
        rows.append((CAPTION, profile.caption.name, profile.caption.source))
    return tuple(rows)


def _spec(role: str, profile: Profile) -> OcrSpec | CaptionSpec:
    spec = {OCR: profile.ocr, CAPTION: profile.caption}.get(role)
    if spec is None:
        raise ConfigError(f"profile {profile.name} has no role {role}")
    return spec
