"""Reads messages: headers and text as the first page, then a page for each attached document or text."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import Protocol

from penstock.errors import BadInputError
from penstock.media.documents.base import DocumentBytes, OpenDocument, Opener, clean_name
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.parsed import PageDraft, ParsedDocument
from penstock.media.documents.types import TYPES, DocumentPage, DocumentType, document_type
from penstock.media.text.markup import BLOCK, LINE, html_text, markdown_text
from penstock.media.types.text import HTML, MARKDOWN
from penstock.records import Modality

_SHOWN_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MAX_PARTS = 200
_TEXTS = ("text/plain", "text/html")


class _Sniff(Protocol):
    def __call__(self, data: bytes, /, *, declared: str | None) -> str | None: ...


class MessageReader:
    """A message that is open, with the documents that are attached. The fields are those of `OpenDocument`."""

    def __init__(
        self, message: Message, limits: DocumentLimits, open_attached: Callable[[DocumentType], Opener]
    ) -> None:
        self._limits = limits
        self._open_attached = open_attached
        self._documents: list[tuple[str, OpenDocument]] = []
        self._last_pages: list[int] = []
        self.notes: list[str] = []
        self.title = _header(message, "Subject")
        self.author = _header(message, "From")
        self.page_count = 0
        self._read(message)

    def page(self, number: int) -> DocumentPage:
        """Returns the message's own page, or that of an attached document."""
        begin = 0
        for (name, document), last in zip(self._documents, self._last_pages, strict=True):
            if number <= last:
                page = document.page(number - begin)
                label = page.label if not name else f"{name} {page.label or page.number}"
                return DocumentPage(
                    number, label if document.page_count > 1 else name, page.text, page.heading or self.title,
                    page.image, page.figures, page.damage,
                )  # fmt: skip
            begin = last
        raise IndexError(f"page {number} of {self.page_count}")

    def _read(self, message: Message) -> None:
        own = PageDraft(heading=self.title)
        own.paragraphs.append(_shown_headers(message))
        body = _body(message)
        own.paragraphs.extend([] if body is None else _text_of(body).split(BLOCK))
        attached: list[tuple[str, OpenDocument]] = []
        for part in _parts(message, body):
            if len(attached) >= _MAX_PARTS:
                self.notes.append(f"attachments after the first {_MAX_PARTS} were not read")
                break
            self._attach(part, own, attached)
        self._add("", ParsedDocument([own], self._limits))
        for name, document in attached:
            self._add(name, document)

    def _add(self, name: str, document: OpenDocument) -> None:
        self._documents.append((name, document))
        self.page_count += document.page_count
        self._last_pages.append(self.page_count)
        self.notes.extend(f"{name}: {note}" for note in document.notes)

    def _attach(self, part: Message, own: PageDraft, attached: list[tuple[str, OpenDocument]]) -> None:
        """Adds a part: an image to the message's page, a document or text as pages, anything else by its name."""
        name = clean_name(_filename(part)) or part.get_content_type()
        if part.get_content_type() == "message/rfc822":
            for inner in part.get_payload():
                if isinstance(inner, Message):
                    label = clean_name(_filename(part)) or _header(inner, "Subject") or name
                    attached.append((label, _inner_page(inner, self._limits)))
            return
        data = _payload(part)
        if part.get_content_maintype() == "image":
            own.images.append((lambda: data, name))
            return
        kind = _sniffed(data, part.get_content_type())
        try:
            if kind is not None and TYPES.get(kind, DocumentType.EMAIL) is not DocumentType.EMAIL:
                opener = self._open_attached(document_type(kind))
                attached.append((name, opener(bytearray(data), self._limits)))
                return
        except BadInputError as exc:
            self.notes.append(f"the attachment {name} was not read: {exc}")
        except Exception as exc:
            self.notes.append(f"the attachment {name} was not read: {type(exc).__name__}")
        else:
            if kind is not None and kind.startswith("text/"):
                draft = PageDraft(heading=name, paragraphs=_as_text(part, data, kind).split(BLOCK))
                attached.append((name, ParsedDocument([draft], self._limits)))
                return
        own.paragraphs.append(f"Attachment: {name} ({part.get_content_type()})")


def open_email(
    data: DocumentBytes, limits: DocumentLimits, open_attached: Callable[[DocumentType], Opener]
) -> MessageReader:
    """Opens a message.

    Args:
        data: the message.
        limits: of it and of each attached document.
        open_attached: gives the parser of an attached document.
    """
    message = email.message_from_bytes(bytes(data), policy=email.policy.compat32)
    return MessageReader(message, limits, open_attached)


def _shown_headers(message: Message) -> str:
    return LINE.join(f"{name}: {text}" for name in _SHOWN_HEADERS if (text := _header(message, name)))


def _header(message: Message, name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    try:
        return clean_name(str(make_header(decode_header(value))))
    except (HeaderParseError, LookupError, ValueError):
        return clean_name(str(value))


def _filename(part: Message) -> str:
    name = part.get_filename()
    if not name:
        return _header(part, "Subject")
    try:
        return str(make_header(decode_header(name)))
    except (HeaderParseError, LookupError, ValueError):
        return str(name)


def _body(message: Message) -> Message | None:
    """Returns the part that is the text of a message: the plain one, else HTML; None if it has none."""
    own = [part for part in _leaves(message) if not _is_attachment(part)]
    for kind in _TEXTS:
        for part in own:
            if part.get_content_type() == kind and _payload(part).strip():
                return part
    return None


def _is_attachment(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or bool(part.get_filename())


def _leaves(message: Message) -> Iterator[Message]:
    """Yields the parts of a message, but not those of messages that are attached to it."""
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        yield message
        return
    for part in message.get_payload():
        if isinstance(part, Message):
            yield from _leaves(part)


def _parts(message: Message, body: Message | None) -> Iterator[Message]:
    """Yields what is attached; the same text in another form is not."""
    for part in _leaves(message):
        is_other_form = part.get_content_type() in _TEXTS and not _is_attachment(part) and body is not None
        if part is not body and not (is_other_form and _is_alternative(message, part)):
            yield part


def _is_alternative(message: Message, part: Message) -> bool:
    """Returns whether a part stands among alternatives, directly or within related parts."""
    return any(
        container.get_content_type() == "multipart/alternative" and any(leaf is part for leaf in _leaves(container))
        for container in message.walk()
    )


def _payload(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _text_of(part: Message) -> str:
    return _as_text(part, _payload(part), part.get_content_type())


def _as_text(part: Message, data: bytes, kind: str) -> str:
    """Decodes a part by its charset, else as UTF-8, else as Latin-1, and removes markup."""
    text = None
    for charset in (part.get_content_charset(), "utf-8", "latin-1"):
        try:
            text = data.decode(charset or "utf-8")
            break
        except (LookupError, UnicodeDecodeError):
            continue
    text = (text or "").replace("\r\n", "\n").replace(BLOCK, "").replace(LINE, "")
    if kind == HTML:
        return html_text(text)[0]
    if kind == MARKDOWN:
        return markdown_text(text)[0]
    return text.replace("\n\n", BLOCK)


def _inner_page(message: Message, limits: DocumentLimits) -> ParsedDocument:
    """Returns the page of a message that is attached: its headers and text, without its own attachments."""
    body = _body(message)
    paragraphs = [_shown_headers(message), *([] if body is None else _text_of(body).split(BLOCK))]
    return ParsedDocument([PageDraft(heading=_header(message, "Subject"), paragraphs=paragraphs)], limits)


def _sniffed(data: bytes, declared: str) -> str | None:
    """Returns the detected type of an attachment; None if it is empty or of no use here."""
    from penstock.media.sniff import sniff  # its table of types takes a tenth of a second, which few messages need

    if not data:
        return None
    sniffed = sniff(data, declared=declared)
    return sniffed.mime if sniffed.mime in TYPES or sniffed.modality is Modality.TEXT else None
