"""Detects the type of media from their bytes.

A producer's declaration is not trusted, with one exception: it separates kinds of text, which no magic number does.
Text beyond doubt is recognised first, since letters at its start may be a binary format's signature. Then come the
images that Pillow reads (they are most of the traffic), audio and video, documents, and any type that puremagic can
name. The last are unsupported, but get a name in the dead letter.
"""

from __future__ import annotations

import puremagic

from penstock.media.types.base import Sniffed
from penstock.media.types.containers import Bytes, container_type
from penstock.media.types.documents import document_type_of
from penstock.media.types.images import image_type
from penstock.media.types.streams import frames_within, stream_type
from penstock.media.types.text import is_text_beyond_doubt, kind_of_text, looks_like_text
from penstock.records import Modality

UNKNOWN = "application/octet-stream"

_HEAD_BYTES = 65_536  # enough to detect the kind of a text, and every list of tracks at the start of a container
_TAIL_BYTES = 18


def sniff(data: Bytes, *, declared: str | None) -> Sniffed:
    """Detects the type of media from their bytes.

    Args:
        data: the whole media: the list of a container's tracks may stand at their end. A file that is mapped to memory
            is read only where it is looked at.
        declared: the producer's content type, or None.
    """
    head = data[:_HEAD_BYTES]
    if is_text_beyond_doubt(head, declared):
        return kind_of_text(head, declared)
    if image := image_type(head, data[-_TAIL_BYTES:]):
        return Sniffed(image, Modality.IMAGE)
    if timed := container_type(data, head) or stream_type(head):
        return timed
    if document := document_type_of(data, head):
        return document
    if looks_like_text(head, declared):
        return kind_of_text(head, declared)
    name = _name_of(head)
    return (frames_within(head) if name == UNKNOWN else None) or Sniffed(name, None)


def _name_of(head: bytes) -> str:
    """Returns a name for an unsupported type. Signatures of fewer than three bytes match by chance too often."""
    try:
        matches = puremagic.magic_string(head)
    except puremagic.PureError:
        return UNKNOWN
    named = [match.mime_type for match in matches if match.mime_type and len(match.byte_match) >= 3]
    return str(named[0]) if named else UNKNOWN
