"""The base of the encoders: role, space, fingerprint, cache and sub-batches around a model that subclasses load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.encoders.base import Fingerprint, Runtime, Space
from penstock.encoders.batch_runner import BatchRunner
from penstock.encoders.cache import VectorCache
from penstock.encoders.model_errors import batcher_of, error_of_load
from penstock.encoders.precision import Precision
from penstock.encoders.sub_batching import SubBatcher
from penstock.errors import ConfigError
from penstock.records import Encoded, EncoderInput, Float32


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """The options with which an encoder runs, whatever its model.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`.
        precision: of the weights and of the values between them.
        cache_size: vectors kept.
        max_items: items in one forward pass.
        runtime: what computes, in a model that more than one can run.
    """

    device: str
    precision: Precision
    cache_size: int
    max_items: int
    runtime: Runtime = "torch"


class BatchedEncoder(ABC):
    """An `Encoder` whose subclass checks the input and runs the model.

    Args:
        role: in the profile.
        model: its name, for messages.
        space: of its vectors, as the profile has it.
        fingerprint: recorded by collections.
        cache_size: vectors kept.
        batcher: chooses the size of the model's own batches.
    """

    def __init__(
        self, role: str, model: str, space: Space, fingerprint: Fingerprint, *, cache_size: int, batcher: SubBatcher
    ) -> None:
        self.name = role
        self.space = space
        self.fingerprint = fingerprint
        self._model_name = model
        self._batcher = batcher
        # The query plane's encoders keep no vectors and count nothing: its own cache stands before them.
        cache: VectorCache[str] = VectorCache(cache_size, count_as="encoder" if cache_size else None)
        self._runner = BatchRunner(
            space.dim, cache=cache, batcher=batcher, forward=self._forward, probe=self._encode_known_good
        )

    @property
    def cache(self) -> VectorCache[str]:
        """Returns the cache of its vectors."""
        return self._runner.cache

    def encode(self, batch: EncoderInput) -> Encoded:
        """Encodes every item that can be encoded: see `Encoder.encode`.

        Raises:
            ConfigError: the batch holds another kind of item, or pixels of another size: decode workers and encoders
                run different profiles.
        """
        self._check_input(batch)
        return self._runner.encode(batch)

    @abstractmethod
    def _check_input(self, batch: EncoderInput) -> None:
        """Raises ConfigError if the batch does not hold what the model takes."""

    @abstractmethod
    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        """Returns float[len(rows), dim] for some rows of a checked batch, not normalised."""

    @abstractmethod
    def _encode_known_good(self) -> Float32:
        """Returns float[1, dim] of an item that a working model always encodes."""

    def _check_dim(self) -> None:
        """Checks that the loaded model's vectors have the profile's length.

        Without it, every item would be rejected one by one for a mistake in the profile.

        Raises:
            ConfigError: they have another length.
            UnavailableError: the device has no memory left for a forward pass.
        """
        try:
            dim = self._encode_known_good().shape[1]
        except (RuntimeError, MemoryError) as exc:  # a device that holds the weights and has no room for a forward pass
            raise error_of_load(exc, self._model_name, self._batcher.classify(exc)) from exc
        if dim != self.space.dim:
            raise ConfigError(
                f"{self._model_name}: the profile gives its vectors {self.space.dim} dimensions, and the model returns "
                f"{dim}; set dim = {dim} in the profile"
            )


class ModelSpec(Protocol):
    """The parts of a spec that every encoder needs: `SentenceSpec`, `ClipSpec` and the others have them."""

    @property
    def name(self) -> str:
        """Returns the model's name, for messages."""

    @property
    def space(self) -> Space:
        """Returns the space of its vectors."""


class ModelEncoder(BatchedEncoder):
    """A `BatchedEncoder` whose model runs in torch, or in what its options name.

    Args:
        role: in the profile.
        spec: the model, as the profile has it.
        fingerprint: recorded by collections.
        options: how it runs.
    """

    def __init__(self, role: str, spec: ModelSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        batcher = batcher_of(options.runtime, options.max_items)
        super().__init__(role, spec.name, spec.space, fingerprint, cache_size=options.cache_size, batcher=batcher)
