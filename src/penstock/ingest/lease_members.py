"""Sends the messages of the lease to the actors of a plane."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from penstock.ingest.executor.ray_actor import Actor, control
from penstock.ingest.lane.actor import LaneActor, LaneHost, call_lane
from penstock.store.lease import Renewal
from penstock.store.writer import Writer


@dataclass(frozen=True, slots=True)
class WriterMember:
    """A writer, as a recipient."""

    actor: Actor

    def send(self, renewal: Renewal) -> ObjectRef[None]:
        """Sends a message, beside the steps of the writer."""
        return control(self.actor, Writer.renew_lease, renewal)


@dataclass(frozen=True, slots=True)
class LaneMember:
    """A lane, as a recipient."""

    actor: LaneActor

    def send(self, renewal: Renewal) -> ObjectRef[None]:
        """Sends a message, beside the loop of the lane."""
        return call_lane(self.actor, LaneHost.renew_lease, renewal)


@dataclass(frozen=True, slots=True)
class RenewalCall:
    """A message to an actor (`lease_keeper.SentMessage`)."""

    answer: ObjectRef[None]

    def received(self) -> bool | None:
        """Returns whether the actor has taken it; False if the actor died, and None while it has not answered."""
        if not ray.wait([self.answer], timeout=0, fetch_local=False)[0]:
            return None
        try:
            ray.get(self.answer, timeout=1)
        except RayError:
            return False
        return True


def lease_members(writers: Sequence[Actor], lanes: Sequence[LaneActor]) -> Sequence[WriterMember | LaneMember]:
    """Returns the recipients of these actors."""
    return [*map(WriterMember, writers), *map(LaneMember, lanes)]


def send_renewal(member: Hashable, renewal: Renewal) -> RenewalCall:
    """Sends a message to a member and returns immediately."""
    assert isinstance(member, WriterMember | LaneMember)
    return RenewalCall(member.send(renewal))
