"""Builds the ASGI application from settings: opens the store, loads the encoders, and wires use cases and routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import astuple
from functools import partial

import numpy as np
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from penstock import __version__
from penstock.analysis import ANALYZER
from penstock.analysis.language_detector import load_detector
from penstock.assembly import folders_that_grow, open_assets, open_store
from penstock.auth import Permission
from penstock.config import Settings
from penstock.encoders.base import Encoder, Fingerprint
from penstock.encoders.deferred import DeferredEncoder
from penstock.encoders.load import fingerprint, load_encoder, load_transcriber
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, SOUND_AUDIO, Profile, load_profile
from penstock.encoders.rerank import PassageScorer, load_maxsim, load_scorer
from penstock.errors import ConfigError, UnavailableError
from penstock.media.claim_check import ClaimCheckReader
from penstock.media.own_services import OwnServices, own_hosts
from penstock.observability.audit_log import open_audit_log
from penstock.observability.build_info import export_build_info
from penstock.query.adapters import AdapterFollower
from penstock.query.calibrations import find_calibration
from penstock.query.changes import IndexChanges
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.first_places import FirstPlaces
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.fusion.statistics_file import StatisticsFile, statistics_key
from penstock.query.generate.pipeline import AnswerPipeline
from penstock.query.parts.images import EntryImageReader
from penstock.query.pipeline import QueryPipeline
from penstock.query.routing.router import Router
from penstock.query.understand.image import query_image_decoder
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.watches.context import WatchPreparer
from penstock.records import EncoderInput, Field, Float32
from penstock.serve import problems
from penstock.serve.answer_logs import AnswerLogs
from penstock.serve.answer_tools import open_answer_tools
from penstock.serve.authentication import Authentication, protect
from penstock.serve.change_feed import follow_changes, result_cache
from penstock.serve.dependencies import provide
from penstock.serve.event_service import event_service
from penstock.serve.feedback import feedback_service, open_click_memory
from penstock.serve.mcp import mcp_route
from penstock.serve.media_links import LinkedRequests
from penstock.serve.middleware.audit_log import RequestAudit
from penstock.serve.middleware.body_limit import BodyLimit, body_limit
from penstock.serve.middleware.index_version import IndexVersion
from penstock.serve.middleware.metrics import RequestMetrics
from penstock.serve.middleware.request_limits import LimitRequests
from penstock.serve.middleware.security_headers import SecurityHeaders
from penstock.serve.middleware.tracing import SearchTracing
from penstock.serve.middleware.trusted_host import TrustedHost, hosts_of
from penstock.serve.openapi import describe
from penstock.serve.plane import QueryPlane
from penstock.serve.routes import (
    ask,
    check,
    entries,
    events,
    feedback,
    live,
    media,
    openai,
    search,
    sign_in,
    status,
    suggest,
    watches,
    web,
    words,
)
from penstock.serve.shared_parts import SharedParts, open_shared_parts
from penstock.serve.use_cases.ask import AskService
from penstock.serve.use_cases.check import CheckService
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.use_cases.live import LiveFeed
from penstock.serve.use_cases.media import MediaService
from penstock.serve.use_cases.media_references import MediaReferences
from penstock.serve.use_cases.search import SearchService
from penstock.serve.use_cases.status import StatusService
from penstock.serve.use_cases.suggest import SuggestService
from penstock.serve.use_cases.thumbnails import ThumbnailService
from penstock.serve.watches import start_watches, watch_service
from penstock.serve.word_tools import open_word_tools
from penstock.store.base import Store
from penstock.store.spec import index_spec

logger = logging.getLogger(__name__)


def build_query_plane(
    settings: Settings,
    store: Store | None = None,
    *,
    logs: AnswerLogs | None = None,
    shared: SharedParts | None = None,
) -> QueryPlane:
    """Returns the query plane of the version of the index that the settings name, ready to answer.

    Args:
        settings: of this version.
        store: an open store, such as one in memory, which the plane closes; None: that of the settings, which searches
            this version.
        logs: of answers; None: in memory, or those of `shared`.
        shared: parts that belong to all planes of the process; None: they are opened for this one.

    Raises:
        ConfigError: an unknown profile, missing weights, an index of another model, or no store in the settings.
        UnavailableError: the store does not answer.
    """
    with ExitStack() as opened:  # closed again if a later part fails: a replica tries again until a version loads
        parts = opened.enter_context(closing(open_shared_parts(settings, logs))) if shared is None else shared
        plane = _wired(settings, store, parts, opened, owns_shared_parts=shared is None)
        opened.pop_all()
    return plane


def _wired(
    settings: Settings, store: Store | None, parts: SharedParts, opened: ExitStack, *, owns_shared_parts: bool
) -> QueryPlane:
    """Wires the plane; `opened` closes its parts.

    Over the limit because every part of the plane is one argument of another.
    """
    profile = load_profile(settings.profile)
    if store is None:
        store = open_store(settings.store, for_queries=True, version=settings.store.version)
        opened.callback(store.close)
    encoders = open_query_encoders(profile, settings)
    fingerprints = {role: encoder.fingerprint for role, encoder in encoders.items()}
    spec = index_spec(profile, fingerprints, settings.store)
    store.ensure(spec)
    export_build_info(profile=profile.name, index_version=spec.version, models=spec.model_slug.values())
    warm_up(encoders, profile)
    load_detector()
    scorer = _scorer(profile, encoders, settings)
    encoder = opened.enter_context(closing(_query_encoder(encoders, scorer, profile, settings)))
    transcriber = _transcriber(profile, settings)
    statistics = StatisticsFile(settings.data_dir / "query-statistics", _statistics_key(fingerprints))
    opened.callback(statistics.close)
    fusions = _fusions(statistics.statistics, profile, fingerprints, settings, store.capabilities.dense_index)
    assets, claim_checks = open_assets(settings), ClaimCheckReader(settings.fetch, own=OwnServices(own_hosts(settings)))
    opened.callback(claim_checks.close)
    adapters = opened.enter_context(closing(AdapterFollower(assets, spec.version, fingerprints)))
    images = EntryImageReader(assets, claim_checks)
    words = open_word_tools(settings, store)
    if words.vocabularies is not None:
        opened.callback(words.vocabularies.close)
    clicks = open_click_memory(settings, profile, fingerprints)
    if clicks is not None:
        opened.callback(clicks[0].close)
    pipeline = QueryPipeline(
        store,
        encoder,
        profile,
        settings.query,
        transcriber=transcriber,
        fusions=fusions,
        reader=None if scorer is None else encoder,
        router=Router.of_settings(settings.query, _question_encoder(profile, encoders[PASSAGE_TEXT])),
        images=images,
        words=words,
        clicks=clicks,
        shows=claim_checks.shows,
        index_version=spec.version,
        adapters=adapters,
    )
    opened.callback(pipeline.close)
    changes = IndexChanges()
    if words.vocabularies is not None:
        changes.subscribe(words.vocabularies.changed)
    cache = result_cache(pipeline, changes, settings, store.capabilities, adapters)
    searches = SearchService(pipeline, cache, profile=profile)
    preparer = WatchPreparer(
        store, encoder, profile, settings.query, fusions=fusions, executor=pipeline.executor, adapters=adapters
    )
    timeout_s = settings.store.timeout_s
    entries = EntryLookup(store, pipeline.executor, timeout_s=timeout_s)
    answer_tools = open_answer_tools(settings, store, images, pipeline.executor, encoder=encoder, profile=profile)
    follower = follow_changes(settings.kafka, changes, index_version=spec.version)
    if follower is not None:
        opened.callback(follower.close)
    watch_worker = start_watches(settings, store, preparer, fusions.calibration, watches.request_of)
    return QueryPlane(
        settings=settings,
        index_version=spec.version,
        authenticator=parts.authenticator,
        admissions=parts.admissions,
        media_links=parts.media_links,
        sign_in=parts.sign_in,
        profile=profile,
        store=store,
        encoder=encoder,
        transcriber=transcriber,
        pipeline=pipeline,
        adapters=adapters,
        words=words,
        statistics=statistics,
        changes=changes,
        follower=follower,
        assets=assets,
        claim_checks=claim_checks,
        searches=searches,
        suggestions=SuggestService(words.vocabularies),
        status=StatusService(
            store,
            encoder,
            pipeline.executor,
            searches.counts,
            profile=profile,
            index_version=spec.version,
            folders=folders_that_grow(settings, assets),
            min_free_disk_bytes=settings.ingest.min_free_disk_bytes,
        ),
        media=MediaService(assets, pipeline.executor, timeout_s=timeout_s),
        media_references=MediaReferences(entries),
        entries=entries,
        events=event_service(settings),
        thumbnails=ThumbnailService(entries, images, settings.image, timeout_s=timeout_s),
        live=LiveFeed(changes, is_followed=follower is not None, max_clients=settings.query.max_live_clients),
        watches=watch_service(settings, preparer, watch_worker),
        answers=AskService(
            AnswerPipeline(searches, answer_tools, settings.generate, settings.query),
            parts.logs,
            searches,
            max_answers=settings.generate.max_answers,
            max_image_bytes=settings.query.max_image_bytes,
            profile=profile,
        ),
        checks=CheckService(answer_tools.checker, entries),
        feedback=feedback_service(settings, encoder, entries, profile, fingerprints),
        clicks=None if clicks is None else clicks[0],
        watch_worker=watch_worker,
        owns_shared_parts=owns_shared_parts,
    )


def create_app(plane: QueryPlane) -> FastAPI:
    """Returns the ASGI application over a query plane, which it closes when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            if plane.watch_worker is not None:
                plane.watch_worker.start(asyncio.get_running_loop())
            yield
        finally:
            await plane.close_connections()
            # The evaluator of watches may wait for this event loop.
            await asyncio.to_thread(plane.close)

    app = FastAPIOffline(  # FastAPI with the scripts of /docs from the package instead of a CDN
        title="Penstock",
        summary="Search text, images, audio, video and documents seconds after they were produced.",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    provide(app, plane)
    app.add_middleware(LinkedRequests, links=plane.media_links)
    app.add_middleware(LimitRequests, admissions=plane.admissions)
    app.add_middleware(Authentication, authenticator=plane.authenticator)
    app.add_middleware(TrustedHost, hosts=hosts_of(plane.settings.query))
    app.add_middleware(BodyLimit, max_bytes=body_limit(plane.settings.query))
    if (audit_log := open_audit_log(plane.settings)) is not None:
        app.add_middleware(RequestAudit, log=audit_log)
    app.add_middleware(RequestMetrics, search_path=search.PATH)
    app.add_middleware(SearchTracing, paths={search.PATH, ask.PATH})
    app.add_middleware(IndexVersion, version=plane.index_version)
    app.add_middleware(SecurityHeaders, has_tls=plane.settings.query.has_tls)
    problems.install(app)
    for routes in (search, ask, check, openai, suggest, status, media, entries, events, words, live, watches, feedback):
        app.include_router(routes.router)
    app.include_router(status.open_router)
    if (route := mcp_route(app, plane.settings.query.mcp_hosts)) is not None:
        protect([route], Permission.SEARCH)  # of its tools; each calls a route, which has a permission of its own
        app.router.routes.append(route)
    if plane.settings.query.page:
        app.include_router(sign_in.router)
        app.include_router(web.router)
    describe(app, needs_credentials=plane.settings.auth.mode != "none")
    protect(app.routes, Permission.STATUS)
    return app


def warm_up(encoders: Mapping[str, Encoder], profile: Profile) -> None:
    """Encodes one item with each encoder of queries, so that the first query is as fast as the second."""
    size = profile.image.size_px
    for role, encoder in encoders.items():
        if isinstance(encoder, DeferredEncoder):
            continue
        if role == JOINT_IMAGE:
            encoder.encode(EncoderInput(role, ("warm-up",), pixels=np.zeros((1, size, size, 3), np.uint8)))
        elif role != SOUND_AUDIO:  # no query is a sound
            encoder.encode(EncoderInput(role, ("warm-up",), texts=("warm-up",)))


def open_query_encoders(profile: Profile, settings: Settings) -> dict[str, Encoder]:
    """Returns the encoders by role. That of sounds is never loaded, as no query is one.

    They keep no vectors: the cache of the query plane comes before them. Raises as `load_encoder`.
    """
    deferred = {SOUND_AUDIO} if settings.query.preload is not False else {SOUND_AUDIO, JOINT_IMAGE}

    def load(role: str) -> Encoder:
        return load_encoder(role, profile, precision=settings.precision, device=settings.device, cache_size=0)

    def load_for_query(role: str) -> Encoder:
        try:
            return load(role)
        except ConfigError as exc:  # the client cannot correct it
            raise UnavailableError(f"the encoder {role} cannot be loaded: {exc}") from exc

    return {
        role: DeferredEncoder(role, profile.space(role), fingerprint(role, profile), partial(load_for_query, role))
        if role in deferred
        else load(role)
        for role in profile.roles
    }


def _query_encoder(
    encoders: Mapping[str, Encoder], scorer: PassageScorer | None, profile: Profile, settings: Settings
) -> BatchingQueryEncoder:
    return BatchingQueryEncoder(
        encoders,
        decode_image=query_image_decoder(profile.image, settings.image, max_pixels=settings.query.max_image_pixels),
        cache_size=settings.query.vector_cache_size,
        scorer=scorer,
    )


def _fusions(
    statistics: ChannelStatistics,
    profile: Profile,
    fingerprints: Mapping[str, Fingerprint],
    settings: Settings,
    dense_index: str,
) -> FusionChooser:
    """Returns what makes the fusion of each query, with the calibration that fits the index."""
    calibration = find_calibration(settings.query.calibration, settings.data_dir, profile, fingerprints, dense_index)
    return FusionChooser(statistics, calibration, FirstPlaces(settings.query.relevance_floor))


def _question_encoder(profile: Profile, encoder: Encoder) -> Callable[[Sequence[str]], Float32]:
    """Returns a function from questions to their vectors by the sentence encoder: float32[questions, dim]."""
    role = profile.query_encoder(Field.PASSAGE)

    def encode(questions: Sequence[str]) -> Float32:
        keys = tuple(str(number) for number in range(len(questions)))
        return encoder.encode(EncoderInput(role, keys, texts=tuple(questions))).vectors

    return encode


def _statistics_key(fingerprints: Mapping[str, Fingerprint]) -> str:
    """Returns the key of the statistics of channels, which hold for these encoders and the store's analyzer."""
    names = {role: "/".join(astuple(fingerprint)) for role, fingerprint in fingerprints.items()}
    return statistics_key(names, ANALYZER)


def _scorer(profile: Profile, encoders: Mapping[str, Encoder], settings: Settings) -> PassageScorer | None:
    """Returns the reranking model of the profile; None if its sentence encoder cannot serve as one either.

    Requests may rerank although the setting is off. MaxSim needs no weights for that; a cross-encoder, which does, is
    loaded only if the setting is on. One that cannot be loaded has MaxSim in its place.
    """
    encoder = encoders[PASSAGE_TEXT]
    if settings.query.rerank != "off":
        try:
            return load_scorer(profile, encoder, precision=settings.precision, device=settings.device)
        except (ConfigError, UnavailableError) as exc:
            logger.warning("the reranking model of profile %s is replaced by maxsim: %s", profile.name, exc)
    return load_maxsim(encoder)


def _transcriber(profile: Profile, settings: Settings) -> SpeechQueryTranscriber | None:
    """Returns None where the profile has no speech model. The first spoken query loads the model."""
    if profile.speech is None:
        return None
    return SpeechQueryTranscriber(
        lambda: load_transcriber(profile, precision=settings.precision, device=settings.device), settings.query
    )
