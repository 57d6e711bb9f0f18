"""Runs `penstock produce`: opens the sources, continues where the last run was, sends, and shows how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from penstock.broker.base import Producer
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag
from penstock.broker.traced_producer import TracedProducer
from penstock.cli.produce_progress import ProduceProgress
from penstock.cli.render import say
from penstock.cli.sources import STDIN, LocalSource, check_paths
from penstock.cli.streaming import ProduceStream, ProduceTally
from penstock.config import Settings
from penstock.errors import PenstockError, UnavailableError, UsageError
from penstock.observability import exposition, tracing
from penstock.produce.base import MediaSource
from penstock.produce.items import ProduceItem, ProduceOptions, SourceMark
from penstock.produce.lag_gate import LagGate
from penstock.produce.objects import ObjectSource
from penstock.produce.open_source import is_url, open_source
from penstock.produce.state import ProduceState, default_path, request_of, target_of

_CLOSE_TIMEOUT_S = 10.0
# Who runs a command again that was interrupted days ago wants all of it: files may have changed since.
_FORGOTTEN_S = 24 * 3600.0


class ProduceRun:
    """Sends items to the Kafka of the settings.

    Args:
        settings: all settings, with the address of a broker.
        rate_per_s: maximum messages per second; None: as fast as they are acknowledged.
        max_lag: events that the ingest plane may have before it; None: any number.
        quiet: show no progress.
        open_producer: connects to the broker; None: to Kafka.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        rate_per_s: float | None = None,
        max_lag: int | None = None,
        quiet: bool = False,
        open_producer: Callable[[Settings], Producer] | None = None,
    ) -> None:
        self._settings = settings
        self._open_producer = open_producer or _kafka_producer
        self._rate_per_s = rate_per_s
        self._max_lag = max_lag
        self._quiet = quiet

    def send(self, items: Iterable[ProduceItem]) -> ProduceTally:
        """Sends items that have no place in a source. Raises UnavailableError: the broker does not answer."""
        return self._stream(items, ProduceProgress([], quiet=self._quiet), on_settled=lambda *_: None)

    def send_sources(
        self, arguments: Sequence[str], options: ProduceOptions, *, state: Path | None, restart: bool
    ) -> ProduceTally:
        """Sends what the arguments of the command line name, from where the last run of the same request ended.

        1. Open the sources and the state; nothing is sent if one of them is wrong.
        2. Send the items of each source behind its place; a place is kept once all before it is acknowledged.
        3. Take what earlier runs refused into the tally, and remove the state: all is done.

        Raises:
            UsageError: an argument names no source, or the state is of another request.
            UnavailableError: the broker or a source does not answer. The same command continues.
        """
        sources = self._open(arguments, options)  # 1
        kept = self._state(arguments, options, state, restart)
        progress = ProduceProgress(sources, quiet=self._quiet, done=0 if kept is None else _done(kept, sources))
        if kept is not None and kept.continues:
            say(f"Continuing where the last run ended ({kept.path}); --restart begins again.")

        def settled(mark: SourceMark, tally: ProduceTally) -> None:
            progress.reached(mark)
            if kept is not None:
                kept.settled(mark, tally.refused, tally.failed)

        try:
            with closing(_items(sources, kept)) as items:  # left to the garbage collector, it may end in any thread
                tally = self._stream(items, progress, on_settled=settled)  # 2
        finally:
            if kept is not None:
                kept.write()
        if kept is not None:
            tally.refused_before, tally.failed_before = kept.refused, kept.failed  # 3
            kept.remove()
        return tally

    def _open(self, arguments: Sequence[str], options: ProduceOptions) -> list[MediaSource]:
        opened = {argument: open_source(argument, self._settings, options) for argument in arguments}
        check_paths(argument for argument, source in opened.items() if source is None)
        sources: list[MediaSource] = []
        folders: dict[str, str] = {}
        for argument, remote in opened.items():
            source = remote or LocalSource(argument, self._settings, options)
            if isinstance(source, ObjectSource) and folders.setdefault(source.folder, argument) != argument:
                raise UsageError(
                    f"{folders[source.folder]} and {argument} are both named {source.folder!r}, so their keys would "
                    "mix; give the folder above them instead"
                )
            sources.append(source)
        return sources

    def _state(
        self, arguments: Sequence[str], options: ProduceOptions, path: Path | None, restart: bool
    ) -> ProduceState | None:
        """Returns the state of this request; None: stdin cannot be read again."""
        if STDIN in arguments:
            if path is not None:
                raise UsageError("--state is for sources that can be read again, which stdin cannot")
            return None
        named = [_absolute(argument) for argument in arguments]
        request = request_of(named, options, target_of(self._settings))
        if path is None:
            path = default_path(self._settings.data_dir, request)
            restart = restart or (path.exists() and time.time() - path.stat().st_mtime > _FORGOTTEN_S)
        return ProduceState(path, request, restart=restart)

    def _stream(
        self,
        items: Iterable[ProduceItem],
        progress: ProduceProgress,
        *,
        on_settled: Callable[[SourceMark, ProduceTally], None],
    ) -> ProduceTally:
        if exposition.is_counting(self._settings.metrics_dir):  # elsewhere no process would read the files
            exposition.connect(self._settings, "produce")
        tracing.connect(self._settings, "produce")
        producer = TracedProducer(self._open_producer(self._settings))
        with ExitStack() as stack:
            stack.callback(producer.close, _CLOSE_TIMEOUT_S)
            show = stack.enter_context(progress)
            stream = ProduceStream(producer, rate_per_s=self._rate_per_s, on_change=show, on_settled=on_settled)
            if self._max_lag is not None:
                progress.gate = gate = self._gate(self._max_lag, stream)
                stream.wait_for(gate.admit)
            try:
                for item in items:
                    stream.send(item)
                stream.finish()
            except KeyboardInterrupt:
                done = stream.tally.acknowledged
                say(f"Interrupted after {done} acknowledged events. Run the command again to continue.")
                raise
        return stream.tally

    def _gate(self, max_lag: int, stream: ProduceStream) -> LagGate:
        from penstock.broker.tenant_topics import with_topics

        return LagGate(partial(_total_lag, with_topics(self._settings)), max_lag, in_flight=stream.in_flight)


def _kafka_producer(settings: Settings) -> Producer:
    return MessageProducer(settings.kafka)


def _total_lag(settings: Settings) -> int:
    topics = settings.kafka.topics_of(settings.ingest.modalities)
    return sum(lag.lag for lag in group_lag(settings.kafka, topics))


def _items(sources: Sequence[MediaSource], kept: ProduceState | None) -> Generator[ProduceItem, None, None]:
    """Yields the items of sources behind their places.

    Raises:
        UnavailableError: a source cannot be read on, for whatever reason.
    """
    for source in sources:
        try:
            yield from source.items(None if kept is None else kept.cursor_of(source.name))
        except PenstockError:
            raise
        except Exception as exc:  # those of file systems and formats are of many kinds
            raise UnavailableError(
                f"{source.name} could not be read on: {type(exc).__name__}: {exc}. Run the command again to continue."
            ) from exc


def _done(kept: ProduceState, sources: Sequence[MediaSource]) -> int:
    return sum(kept.done_of(source.name) for source in sources)


def _absolute(argument: str) -> str:
    return argument if is_url(argument) else str(Path(argument).absolute())
