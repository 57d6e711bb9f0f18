"""The audit: proves from Kafka and the store that every event has exactly one outcome, or lists those without."""

from penstock.audit.audit import audit, run_audit, scope_of
from penstock.audit.feedback import FeedbackAudit, run_feedback_audit
from penstock.audit.report import AuditProblem, AuditProgress, AuditReport, PartitionReport, ProblemKind
from penstock.audit.scan import AuditScope

__all__ = [
    "AuditProblem",
    "AuditProgress",
    "AuditReport",
    "AuditScope",
    "FeedbackAudit",
    "PartitionReport",
    "ProblemKind",
    "audit",
    "run_audit",
    "run_feedback_audit",
    "scope_of",
]
