"""The actors of all pools, as they are passed to every lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.ingest.executor.autoscaler import Autoscaler
from penstock.ingest.executor.ray_actor import Actor

# Names of pools, as metrics, logs and `penstock status` show them. The pool of an encoder is named after its role.
FETCH, DECODE, LONG_MEDIA, WRITE = "fetch", "decode", "long_media", "write"


@dataclass(frozen=True, slots=True)
class WorkerHandles:
    """The actors of the pools, as a lane needs them.

    Attributes:
        fetch: workers that read claim checks.
        decode: workers that decode text, images and the first segments of timed media.
        long_media: workers that decode the other segments.
        encoders: workers of each encoder, by role.
        writers: the writers, by shard.
        concurrent_writes: batches that each writer has in flight.
        version: rises with every change of the pools that scale, decode and encoders.
    """

    fetch: Sequence[Actor]
    decode: Sequence[Actor]
    long_media: Sequence[Actor]
    encoders: Mapping[str, Sequence[Actor]]
    writers: Sequence[Actor]
    concurrent_writes: int = 1
    version: int = 0

    def by_pool(self) -> Mapping[str, Sequence[Actor]]:
        """Returns the actors by the name of their pool."""
        media = {FETCH: self.fetch, DECODE: self.decode, LONG_MEDIA: self.long_media}
        return {**media, **self.encoders, WRITE: self.writers}

    def sizes(self) -> Mapping[str, int]:
        """Returns the number of workers by pool."""
        return {pool: len(actors) for pool, actors in self.by_pool().items()}

    def rescaled(self, autoscaler: Autoscaler) -> WorkerHandles:
        """Returns the handles with the present actors of the pools that scale."""
        by_pool = autoscaler.handles()
        encoders = {role: by_pool[role] for role in self.encoders}
        return replace(self, decode=by_pool[DECODE], encoders=encoders, version=autoscaler.version)
