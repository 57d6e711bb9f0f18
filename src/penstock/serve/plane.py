"""The parts of the query plane in one process."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.config import Settings
from penstock.encoders.profiles import Profile
from penstock.media.claim_check import ClaimCheckReader
from penstock.query.changes import ChangeFollower, IndexChanges
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.fusion.statistics_file import StatisticsFile
from penstock.query.pipeline import QueryPipeline
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.understand.understanding import WordTools
from penstock.serve.use_cases.media import AssetReader, MediaService
from penstock.serve.use_cases.search import SearchService
from penstock.serve.use_cases.status import StatusService
from penstock.serve.use_cases.suggest import SuggestService
from penstock.serve.use_cases.watches import WatchService
from penstock.serve.watches import WatchWorker
from penstock.store.base import Store


@dataclass(frozen=True, slots=True)
class QueryPlane:
    """The use cases that the routes call, and what they share. Every replica has one.

    Over the limit because each part of the plane is an attribute.

    Attributes:
        settings: all settings.
        profile: of the encoders.
        store, encoder, transcriber, pipeline, words, statistics: owned by this object, and closed by `close`.
        changes: of the index, as this replica receives them.
        follower: receives them, owned too; None: there is no change feed.
        assets: the store of media.
        claim_checks: reads media that are elsewhere; closed by `close`, too.
        searches, suggestions, status, media, watches: the use cases.
        watch_worker: keeps and evaluates watches, owned too; None: there are none.
    """

    settings: Settings
    profile: Profile
    store: Store
    encoder: BatchingQueryEncoder
    transcriber: SpeechQueryTranscriber | None
    pipeline: QueryPipeline
    words: WordTools
    statistics: StatisticsFile
    changes: IndexChanges
    follower: ChangeFollower | None
    assets: AssetReader
    claim_checks: ClaimCheckReader
    searches: SearchService
    suggestions: SuggestService
    status: StatusService
    media: MediaService
    watches: WatchService
    watch_worker: WatchWorker | None

    async def close_connections(self) -> None:
        """Ends connections that belong to the event loop. Call it before `close`."""
        if self.words.rewriter is not None:
            await self.words.rewriter.close()

    def close(self) -> None:
        """Ends threads and connections. Running searches fail."""
        if self.watch_worker is not None:
            self.watch_worker.close()
        if self.follower is not None:
            self.follower.close()
        self.pipeline.close()
        if self.words.vocabularies is not None:
            self.words.vocabularies.close()
        self.statistics.close()
        if self.transcriber is not None:
            self.transcriber.close()
        self.encoder.close()
        self.claim_checks.close()
        self.store.close()
