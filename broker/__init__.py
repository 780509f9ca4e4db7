"""The queue between gateways and workers; the only package that knows Redis.

A gateway calls `embed` of what `connect_gateway` gives it; a worker loops over `take` and `reply` of its
`worker_end`. Work is delivered at least once: embeddings are pure functions, so a repeat wastes time and
does no harm.
"""

from broker.embedded import EmbeddedServer
from broker.ends import GatewayEnd, WorkerEnd
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
from broker.gateway_end import connect_gateway
from broker.jobs import (
    JOB_CLASSES,
    ROWS_PER_ENTRY,
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
from broker.label_sets import LabelSetStore
from broker.limits import PATIENCE, GatewayLimits, fair_share
from broker.line import Line
from broker.permissions import denied_commands
from broker.roles import ROLES, Permission, Role, permissions_of, rules_of
from broker.sharded_worker import worker_end
from broker.shared_cache import SharedCache
from broker.timing import WorkerTiming
from broker.view import QueueView
from broker.views import DeadLetter, ModelView, ServerView, TowerView
from broker.worker import WorkerBroker

__all__ = [
    "JOB_CLASSES",
    "PATIENCE",
    "ROLES",
    "ROWS_PER_ENTRY",
    "Answer",
    "BrokerError",
    "BrokerUnavailable",
    "DeadLetter",
    "DeadlineExceeded",
    "Dtype",
    "EmbeddedServer",
    "FingerprintMismatch",
    "GatewayBroker",
    "GatewayEnd",
    "GatewayLimits",
    "Job",
    "JobClass",
    "JobResult",
    "LabelSetStore",
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
    "SharedCache",
    "Tower",
    "TowerView",
    "UnsuitableServer",
    "Work",
    "WorkerBroker",
    "WorkerEnd",
    "WorkerInfo",
    "WorkerTiming",
    "WouldBeLate",
    "connect_gateway",
    "denied_commands",
    "fair_share",
    "model_tag",
    "permissions_of",
    "rules_of",
    "worker_end",
]
