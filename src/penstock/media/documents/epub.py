"""Reads EPUBs: a page for each document of the spine, in reading order."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from selectolax.lexbor import LexborHTMLParser

from penstock.errors import BadInputError, Reason
from penstock.media.documents.archive import open_archive, read_entry
from penstock.media.documents.base import DocumentBytes, clean_name
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.parsed import PageDraft, ParsedDocument
from penstock.media.text.markup import BLOCK, html_text

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_MAX_IMAGE_TAGS_CHARS = 2_000_000  # of a chapter that is searched for images


@dataclass(frozen=True, slots=True)
class _Item:
    """A file of the book: its path in the archive, its type, and what it is used for."""

    path: str
    mime: str
    properties: str


def open_epub(data: DocumentBytes, limits: DocumentLimits) -> ParsedDocument:
    """Opens a book.

    Raises:
        BadInputError: as `open_archive`; UNSUPPORTED if its text is encrypted; CORRUPT without a readable list of its
            chapters.
    """
    archive = open_archive(data, limits)
    _refuse_encrypted(archive)
    package_path = _package_path(archive)
    package = _xml(archive, package_path)
    folder = posixpath.dirname(package_path)
    items = {
        item.get("id") or "": _Item(
            _resolve(folder, item.get("href") or ""), item.get("media-type") or "", item.get("properties") or ""
        )
        for item in package.findall(".//{*}item")
    }
    spine = [items[ref.get("idref")] for ref in package.findall(".//{*}itemref") if ref.get("idref") in items]
    if not spine:
        raise BadInputError(Reason.CORRUPT, f"the list of chapters in {package_path} is empty")
    headings = _headings(archive, items)
    drafts = [_draft(archive, item, headings.get(item.path, "")) for item in spine]
    title, author = _first(package, "title"), _first(package, "creator")
    return ParsedDocument(drafts, limits, title=title, author=author)


def _refuse_encrypted(archive: zipfile.ZipFile) -> None:
    """Refuses a book of which more than the fonts is encrypted."""
    if _ENCRYPTION not in archive.namelist():
        return
    methods = (method.get("Algorithm") for method in _xml(archive, _ENCRYPTION).findall(".//{*}EncryptionMethod"))
    if any(method not in _FONT_OBFUSCATION for method in methods):
        raise BadInputError(Reason.UNSUPPORTED, "a book that is encrypted, as those of some shops are")


def _package_path(archive: zipfile.ZipFile) -> str:
    root = _xml(archive, _CONTAINER).find(".//{*}rootfile")
    path = None if root is None else root.get("full-path")
    if not path:
        raise BadInputError(Reason.CORRUPT, f"{_CONTAINER} names no package")
    return str(path)


def _xml(archive: zipfile.ZipFile, path: str) -> Any:
    """Parses a file of the book.

    Raises:
        BadInputError: CORRUPT: it is missing, no XML, or declares entities.
    """
    data = read_entry(archive, path)
    if not data:
        raise BadInputError(Reason.CORRUPT, f"{path} is missing from it, or damaged")
    try:
        return fromstring(data)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as exc:
        raise BadInputError(Reason.CORRUPT, f"{path} in it is no XML that can be read: {exc}") from exc


def _resolve(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join("/", folder, unquote(href.partition("#")[0])))[1:]


def _first(package: Any, name: str) -> str:
    nodes = package.iter("{http://purl.org/dc/elements/1.1/}" + name)
    return next((str(node.text) for node in nodes if node.text), "")


def _draft(archive: zipfile.ZipFile, item: _Item, heading: str) -> PageDraft:
    if item.mime.startswith("image/"):
        return PageDraft(heading=heading, images=[(_loader(archive, item.path), "")])
    data = read_entry(archive, item.path)
    if not data:
        return PageDraft(heading=heading, damage=f"{item.path} is missing from the book, or damaged")
    html = data.decode(_charset(data), "replace").replace(BLOCK, "").replace("\x1f", "")
    text, _ = html_text(html)
    draft = PageDraft(label=heading, heading=heading or _first_heading(html), paragraphs=text.split(BLOCK))
    draft.images.extend(_images(archive, item.path, html))
    return draft


def _charset(data: bytes) -> str:
    """EPUB allows UTF-8 and UTF-16 only, and the latter with a mark."""
    return "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _first_heading(html: str) -> str:
    node = LexborHTMLParser(html[:_MAX_IMAGE_TAGS_CHARS]).css_first("h1, h2, h3")
    return "" if node is None else clean_name(node.text())


def _images(archive: zipfile.ZipFile, path: str, html: str) -> Iterator[tuple[Callable[[], bytes], str]]:
    folder = posixpath.dirname(path)
    for node in LexborHTMLParser(html[:_MAX_IMAGE_TAGS_CHARS]).css("img, image"):
        source = node.attributes.get("src") or node.attributes.get("xlink:href") or node.attributes.get("href") or ""
        if source and ":" not in source.split("/")[0]:
            yield _loader(archive, _resolve(folder, source)), node.attributes.get("alt") or ""


def _loader(archive: zipfile.ZipFile, path: str) -> Callable[[], bytes]:
    return lambda: read_entry(archive, path)


def _headings(archive: zipfile.ZipFile, items: dict[str, _Item]) -> dict[str, str]:
    """Returns the first title that the table of contents has for each file of the book."""
    headings: dict[str, str] = {}
    for item in items.values():
        folder = posixpath.dirname(item.path)
        if "nav" in item.properties.split():
            html = read_entry(archive, item.path).decode("utf-8", "replace")[:_MAX_IMAGE_TAGS_CHARS]
            for link in LexborHTMLParser(html).css("nav a[href]"):
                headings.setdefault(_resolve(folder, link.attributes.get("href") or ""), clean_name(link.text()))
        elif item.mime == "application/x-dtbncx+xml":
            for path, title in _ncx_titles(archive, item.path):
                headings.setdefault(_resolve(folder, path), title)
    return headings


def _ncx_titles(archive: zipfile.ZipFile, path: str) -> Iterator[tuple[str, str]]:
    try:
        contents = _xml(archive, path)
    except BadInputError:
        return  # chapters are read without their titles
    for point in contents.findall(".//{*}navPoint"):
        label, content = point.find("{*}navLabel/{*}text"), point.find("{*}content")
        if label is not None and content is not None:
            yield content.get("src") or "", clean_name(label.text or "")
