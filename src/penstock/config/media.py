"""Settings for decoding media, by modality."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from penstock.config.section import Section


class TextSettings(Section):
    """The passages that text is cut into."""

    max_passage_tokens: int = Field(200, ge=16, description="largest passage, in tokens of the sentence encoder")
    overlap_tokens: int = Field(
        40, ge=0, description="tokens of whole sentences repeated at the start of the next passage"
    )
    max_passages: int = Field(10_000, ge=1, description="a text of more passages is rejected as too large")

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.overlap_tokens * 2 > self.max_passage_tokens:
            raise ValueError("overlap_tokens may be at most half of max_passage_tokens")
        return self


class ImageSettings(Section):
    """Limits of images."""

    max_pixels: int = Field(
        178_956_970, ge=1, description="largest width × height; a larger image is rejected as too large"
    )


class OcrSettings(Section):
    """Reading of the words in images, where the profile has models for it."""

    enabled: bool = Field(
        False, description="read the words in images, if the profile has [ocr]; costs more than the rest of an image"
    )
    max_side_px: int = Field(
        960, ge=64, le=4_096, description="longer side to which an image is reduced to be read, pixels"
    )
    glance_px: int = Field(
        416, ge=64, description="longer side of the copy in which any text is looked for first, pixels"
    )
    min_confidence: float = Field(
        0.6, ge=0, le=1, description="mean probability of a line's characters below which it is dropped"
    )
    max_image_s: float = Field(5.0, gt=0, description="time to read one image, seconds; what was read by then is kept")


class SpeechSettings(Section):
    """Voice activity detection, and the passages that speech is cut into."""

    threshold: float = Field(0.5, gt=0, lt=1, description="speech probability at which a window of speech begins")
    min_silence_ms: int = Field(
        2_000, ge=100, description="shortest silence that ends a window of speech, milliseconds"
    )
    min_passage_s: float = Field(
        5.0, ge=0, description="shortest passage, seconds; a shorter one continues as long as the speech does"
    )
    max_passage_s: float = Field(30.0, gt=0, description="longest passage, seconds")
    language: str | None = Field(
        None, description="ISO 639-1 code of all speech; unset: the model detects it for each window"
    )


class VideoSettings(Section):
    """Shot detection, and the thumbnails of shots."""

    scene_threshold: float = Field(
        0.08, gt=0, lt=1, description="mean difference of pixels, as a share of full brightness, that starts a shot"
    )
    max_sample_gap_ms: int = Field(5_000, ge=100, description="longest time between two analysed frames, milliseconds")
    min_shot_ms: int = Field(
        500, ge=0, description="shortest shot, milliseconds; a shorter one belongs to the shot before it"
    )
    thumbnail_px: int = Field(320, ge=16, le=640, description="longer side of a thumbnail, pixels; stored as JPEG")


class DocumentSettings(Section):
    """Limits of documents, each of which is parsed in a process of its own."""

    max_pages: int = Field(
        2_000, ge=1, description="pages of a document that are indexed; those behind are left out, and the log says so"
    )
    segment_pages: int = Field(
        25, ge=1, description="pages that are read and indexed together; a lost worker costs as many"
    )
    page_px: int = Field(
        1_024, ge=64, le=4_096, description="longer side of the image of a page and of images on it, pixels"
    )
    max_figures: int = Field(20, ge=0, description="images of one page that are indexed, the first of them")
    parse_timeout_s: float = Field(
        60.0,
        ge=4,
        description="CPU time that the pages of one segment may take, seconds; one page may take a quarter of it",
    )
    max_memory_mib: int = Field(
        1_024, ge=64, description="memory of the process that parses a document, beside its own bytes, MiB"
    )
    max_unpacked_mib: int = Field(
        256, ge=1, description="a packed document (DOCX, EPUB…) that unpacks to more is rejected as too large, MiB"
    )


class LongMediaSettings(Section):
    """Segments of long media. A lost worker, lane or partition costs one segment of each medium under way.

    The shot or the speech in progress at the start of the segment is decoded again as well: at most two minutes more.
    """

    first_segment_s: float = Field(
        60.0, gt=0, description="length of the first segment, seconds; shorter media are indexed in one batch"
    )
    segment_s: float = Field(120.0, gt=0, description="length of each further segment, seconds")
    max_worker_s: float = Field(
        20.0, gt=0, description="elapsed time after which a worker ends the segments of a batch early, seconds"
    )
    transcription_chunk_s: float | None = Field(
        None,
        gt=0,
        description="longest transcription call for long media, seconds; clips go between calls; unset: 0.1 on a CPU, "
        "1 on a GPU",
    )
    max_concurrent: int = Field(
        2, ge=1, description="long media of one topic that a lane processes concurrently; the rest wait"
    )
    max_open: int = Field(4, ge=1, description="long media that a decode worker keeps open between two segments")
