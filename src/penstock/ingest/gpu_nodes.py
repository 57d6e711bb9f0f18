"""Decides whether encoders ask Ray for GPUs, and waits for the nodes that have them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import ray

from penstock.config import Settings
from penstock.errors import UnavailableError

logger = logging.getLogger(__name__)

_POLL_S = 1.0


def cluster_gpus() -> float:
    """Returns the GPUs of the Ray cluster, those in use included."""
    return float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]


def gpus_of_an_encoder(settings: Settings) -> float:
    """Returns the GPUs that each encoder reserves; 0 if they run on CPUs.

    With `device = cuda` they reserve them in any case, and an autoscaler sees the demand. With `auto` they do if the
    cluster has some now.
    """
    on_gpus = settings.device.startswith("cuda") or (settings.device == "auto" and cluster_gpus() > 0)
    return settings.ingest.encoder_gpus if on_gpus else 0.0


def await_gpus(
    needed: float, stop: threading.Event, timeout_s: float, available: Callable[[], float] = cluster_gpus
) -> bool:
    """Waits until the cluster has as many GPUs as the encoders ask for. Start the encoders first: they are the demand.

    Args:
        needed: by all encoders together.
        stop: ends the wait.
        timeout_s: the longest wait.
        available: returns the GPUs of the cluster.

    Returns:
        whether they are there; False only if `stop` was set.

    Raises:
        UnavailableError: they are not there in time.
    """
    began_s = time.monotonic()
    last = None
    while (present := available()) < needed:
        waited_s = time.monotonic() - began_s
        if waited_s > timeout_s:
            raise UnavailableError(
                f"the encoders ask for {needed:g} GPUs, and after {timeout_s:.0f} s the Ray cluster has {present:g}. "
                "Add nodes with GPUs, let several encoders share one (ingest.encoder_gpus), or set device to cpu."
            )
        if present != last:
            logger.warning(
                "the encoders ask for %g GPUs and the Ray cluster has %g: waiting up to %.0f s for nodes with GPUs",
                needed,
                present,
                timeout_s - waited_s,
            )
            last = present
        if stop.wait(_POLL_S):
            return False
    if last is not None:
        logger.info("the Ray cluster has %g GPUs now: the encoders start", present)
    return True
