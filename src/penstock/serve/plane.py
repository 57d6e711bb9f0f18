"""The parts of the query plane in one process."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.auth import Authenticator, CodeFlow, MediaLinks
from penstock.config import Settings
from penstock.encoders.profiles import Profile
from penstock.media.claim_check import ClaimCheckReader
from penstock.query.adapters import AdapterFollower
from penstock.query.changes import ChangeFollower, IndexChanges
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.fusion.statistics_file import StatisticsFile
from penstock.query.pipeline import QueryPipeline
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.understand.understanding import WordTools
from penstock.serve.limits.admission import Admissions
from penstock.serve.use_cases.ask import AskService
from penstock.serve.use_cases.check import CheckService
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.use_cases.events import EventService
from penstock.serve.use_cases.feedback import FeedbackService
from penstock.serve.use_cases.live import LiveFeed
from penstock.serve.use_cases.media import AssetReader, MediaService
from penstock.serve.use_cases.media_references import MediaReferences
from penstock.serve.use_cases.search import SearchService
from penstock.serve.use_cases.status import StatusService
from penstock.serve.use_cases.suggest import SuggestService
from penstock.serve.use_cases.thumbnails import ThumbnailService
from penstock.serve.use_cases.watches import WatchService
from penstock.serve.watches import WatchWorker
from penstock.store.base import Store
from penstock.store.clicks import ClickTable


@dataclass(frozen=True, slots=True)
class QueryPlane:
    """The use cases that the routes call, and what they share. Every replica has one.

    Over the limit because each part of the plane is an attribute.

    Attributes:
        settings: all settings.
        index_version: the version of the index that all answers are from.
        authenticator: finds the principals of requests.
        admissions: admit requests within the limits.
        media_links: signs links to media; None: requests need no credentials.
        sign_in: signs users of the page in at an OpenID Connect provider; None: there is none.
        profile: of the encoders.
        store, encoder, transcriber, pipeline, adapters, words, statistics: owned by this object, and closed by `close`.
        changes: of the index, as this replica receives them.
        follower: receives them, owned too; None: there is no change feed.
        assets: the store of media.
        claim_checks: reads media that are elsewhere; closed by `close`, too.
        searches, suggestions, status, media, media_references, entries, events, thumbnails, live, watches, answers,
            checks, feedback: the use cases.
        watch_worker: keeps and evaluates watches, owned too; None: there are none.
        clicks: the click memory, owned too; None: choices do not count.
        owns_shared_parts: whether `close` ends the sign-in, which planes of other versions may share.
    """

    settings: Settings
    index_version: int
    authenticator: Authenticator
    admissions: Admissions
    media_links: MediaLinks | None
    sign_in: CodeFlow | None
    profile: Profile
    store: Store
    encoder: BatchingQueryEncoder
    transcriber: SpeechQueryTranscriber | None
    pipeline: QueryPipeline
    adapters: AdapterFollower
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
    media_references: MediaReferences
    entries: EntryLookup
    events: EventService
    thumbnails: ThumbnailService
    live: LiveFeed
    watches: WatchService
    answers: AskService
    checks: CheckService
    watch_worker: WatchWorker | None
    feedback: FeedbackService
    clicks: ClickTable | None
    owns_shared_parts: bool = True

    async def close_connections(self) -> None:
        """Ends answers and connections that belong to the event loop. Call it before `close`."""
        await self.answers.close()
        if self.words.rewriter is not None:
            await self.words.rewriter.close()

    def close(self) -> None:
        """Ends threads and connections. Running searches fail."""
        if self.sign_in is not None and self.owns_shared_parts:
            self.sign_in.close()
        if self.watch_worker is not None:
            self.watch_worker.close()
        if self.follower is not None:
            self.follower.close()
        self.events.close()
        self.pipeline.close()
        self.adapters.close()
        self.thumbnails.close()
        if self.words.vocabularies is not None:
            self.words.vocabularies.close()
        self.statistics.close()
        if self.transcriber is not None:
            self.transcriber.close()
        self.encoder.close()
        self.claim_checks.close()
        self.feedback.close()
        if self.clicks is not None:
            self.clicks.close()
        self.store.close()
