"""The audit: proves from Kafka and the store that every event ended as exactly one thing, or says which did not."""

from penstock.audit.audit import audit, run_audit, scope_of
from penstock.audit.report import AuditReport, PartitionReport, Problem, ProblemKind, Progress
from penstock.audit.scan import Scope

__all__ = [
    "AuditReport",
    "PartitionReport",
    "Problem",
    "ProblemKind",
    "Progress",
    "Scope",
    "audit",
    "run_audit",
    "scope_of",
]
