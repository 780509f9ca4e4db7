"""The queue between gateways and workers; the only package that knows Redis.

A gateway calls `GatewayBroker.embed`; a worker loops over `WorkerBroker.take` and `reply`. Work is delivered
at least once: embeddings are pure functions, so a repeat wastes time and does no harm.
"""

from broker.embedded import EmbeddedServer
from broker.errors import (
    BrokerError,
    BrokerUnavailable,
    DeadlineExceeded,
    FingerprintMismatch,
    NoWorkers,
    QueueFull,
    UnsuitableServer,
    WouldBeLate,
)
from broker.gateway import GatewayBroker
from broker.jobs import (
    JOB_CLASSES,
    Answer,
    Dtype,
    Job,
    JobClass,
    JobResult,
    Row,
    RowError,
    Tower,
    Work,
    WorkerInfo,
)
from broker.keys import model_tag
from broker.limits import PATIENCE, GatewayLimits, fair_share
from broker.line import Line
from broker.permissions import denied_commands
from broker.roles import OPTIONAL, ROLES, Permission, Role, permissions_of, rules_of
from broker.timing import WorkerTiming
from broker.view import DeadLetter, ModelView, QueueView, ServerView, TowerView
from broker.worker import WorkerBroker

__all__ = [
    "JOB_CLASSES",
    "OPTIONAL",
    "PATIENCE",
    "ROLES",
    "Answer",
    "BrokerError",
    "BrokerUnavailable",
    "DeadLetter",
    "DeadlineExceeded",
    "Dtype",
    "EmbeddedServer",
    "FingerprintMismatch",
    "GatewayBroker",
    "GatewayLimits",
    "Job",
    "JobClass",
    "JobResult",
    "Line",
    "ModelView",
    "NoWorkers",
    "Permission",
    "QueueFull",
    "QueueView",
    "Role",
    "Row",
    "RowError",
    "ServerView",
    "Tower",
    "TowerView",
    "UnsuitableServer",
    "Work",
    "WorkerBroker",
    "WorkerInfo",
    "WorkerTiming",
    "WouldBeLate",
    "denied_commands",
    "fair_share",
    "model_tag",
    "permissions_of",
    "rules_of",
]
