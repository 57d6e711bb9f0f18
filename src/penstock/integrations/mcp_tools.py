"""The tools by which a model searches, gets answers, and looks at results. They know nothing of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from penstock.client import AssetEntryJson, AsyncPenstockClient, HitJson, SearchOptionsJson, SourceJson
from penstock.errors import QueryError
from penstock.integrations.mcp_schemas import (
    MAX_FRAMES,
    MAX_MOMENT_CHARS,
    MAX_MOMENT_S,
    MAX_WORDS_CHARS,
    AskArguments,
    MomentArguments,
    SearchArguments,
    ShowArguments,
    ToolAnswer,
    ToolFrame,
    ToolHit,
    ToolHits,
    ToolImage,
    ToolMoment,
    ToolSource,
)

_FRAME_PX = 320


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The result of a tool: data, and images as JPEG."""

    data: BaseModel
    images: Sequence[bytes] = ()


async def search(client: AsyncPenstockClient, arguments: SearchArguments) -> ToolOutput:
    """Finds texts, images, moments of audio and video, and pages of documents by their meaning."""
    options: SearchOptionsJson = {"limit": arguments.limit}
    if arguments.kinds is not None:
        options["modalities"] = arguments.kinds
    if arguments.min_relevance is not None:
        options["min_relevance"] = arguments.min_relevance
    if arguments.filter is not None:
        options["filter"] = arguments.filter
    result = await client.search(arguments.query, **options)
    return ToolOutput(
        ToolHits(
            hits=[_hit_out(hit) for hit in result["hits"]],
            nothing_found=result["nothing_found"],
            did_you_mean=result["query"]["did_you_mean"],
        )
    )


async def ask(client: AsyncPenstockClient, arguments: AskArguments) -> ToolOutput:
    """Answers a question from the index in sentences that were checked against their sources."""
    answer = await client.ask(arguments.question, max_sources=arguments.max_sources)
    return ToolOutput(
        ToolAnswer(
            answer=answer["answer"],
            abstained=answer["abstained"],
            why=answer["why"],
            sources=[_source_out(source) for source in answer["sources"]],
        )
    )


async def show(client: AsyncPenstockClient, arguments: ShowArguments) -> ToolOutput:
    """Shows the image of a hit, its page, or the frame at the middle of speech."""
    image = await client.thumbnail(arguments.id, width_px=arguments.width)
    return ToolOutput(ToolImage(id=arguments.id, mime="image/jpeg", bytes=len(image)), [image])


async def moment(client: AsyncPenstockClient, arguments: MomentArguments) -> ToolOutput:
    """Gives the words and up to four frames of a range of time in audio or video."""
    start_s, end_s = arguments.start_s, arguments.end_s
    if not start_s < end_s <= start_s + MAX_MOMENT_S:
        raise QueryError(f"end_s is to be above start_s, by at most {MAX_MOMENT_S:g} s", field="/end_s")
    entries = [
        entry
        for entry in await client.entries(arguments.media, entry_id=arguments.id)
        if _overlaps(entry, start_s, end_s)
    ]
    if not entries:
        raise QueryError(f"nothing is indexed of {arguments.media} between {start_s:g} and {end_s:g} s", status=404)
    spoken = " ".join(entry["text"] for entry in entries if entry["collection"] == "speech")
    frames = _spread([entry for entry in entries if entry["collection"] == "frame"])
    images = [await client.thumbnail(frame["id"], width_px=_FRAME_PX) for frame in frames]
    shown = [
        ToolFrame(id=frame["id"], start_s=frame["start_ms"] / 1000, end_s=frame["end_ms"] / 1000) for frame in frames
    ]
    words = _cut(spoken, MAX_MOMENT_CHARS)
    return ToolOutput(ToolMoment(start_s=start_s, end_s=end_s, words=words, frames=shown), images)


def _hit_out(hit: HitJson) -> ToolHit:
    moment = hit["moment"]
    start_s, end_s = (moment["start_ms"] / 1000, moment["end_ms"] / 1000) if moment else (None, None)
    return ToolHit(
        id=hit["id"],
        kind=hit["collection"],
        title=hit["title"],
        words=_cut(moment["transcript"] if moment else hit["text"], MAX_WORDS_CHARS),
        relevance=hit["relevance"],
        source=_origin(hit),
        media=hit["media_url"],
        start_s=start_s,
        end_s=end_s,
        page=hit["page"],
        page_label=hit["page_label"],
        image=hit["thumbnail_url"] is not None,
    )


def _source_out(source: SourceJson) -> ToolSource:
    hit, start_ms, end_ms = source["hit"], source["start_ms"], source["end_ms"]
    return ToolSource(
        n=source["n"],
        id=hit["id"],
        title=hit["title"],
        source=_origin(hit),
        quote=source["quote"] and _cut(source["quote"], MAX_WORDS_CHARS),
        media=hit["media_url"],
        start_s=None if start_ms is None else start_ms / 1000,
        end_s=None if end_ms is None else end_ms / 1000,
        page=hit["page"],
        page_label=hit["page_label"],
    )


def _origin(hit: HitJson) -> str:
    """Returns the path of the source file if it is known, else topic and key of its event."""
    path = hit["attributes"].get("path")
    return path if isinstance(path, str) else f"{hit['topic']}/{hit['key']}"


def _overlaps(entry: AssetEntryJson, start_s: float, end_s: float) -> bool:
    return entry["start_ms"] < end_s * 1000 and entry["end_ms"] > start_s * 1000


def _spread(frames: Sequence[AssetEntryJson]) -> list[AssetEntryJson]:
    """Returns at most `MAX_FRAMES` frames, evenly over all."""
    count = min(len(frames), MAX_FRAMES)
    return [frames[number * len(frames) // count] for number in range(count)]


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"
