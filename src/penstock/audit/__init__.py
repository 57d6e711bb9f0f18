"""The audit: proves from Kafka and the store that every event ended as exactly one thing, or says which did not."""

from penstock.audit.audit import audit, run_audit, scope_of
from penstock.audit.report import AuditProblem, AuditProgress, AuditReport, PartitionReport, ProblemKind
from penstock.audit.scan import AuditScope

__all__ = [
    "AuditReport",
    "PartitionReport",
    "AuditProblem",
    "ProblemKind",
    "AuditProgress",
    "AuditScope",
    "audit",
    "run_audit",
    "scope_of",
]
