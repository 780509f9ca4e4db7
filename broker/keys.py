"""Every Redis key of the project. The braces keep one model's keys together in a cluster."""

import hashlib
from dataclasses import dataclass

from broker.jobs import JOB_CLASSES, JobClass, Tower

GROUP = "workers"
HEADER_FIELD = b"h"
PAYLOAD_FIELD = b"p"
REPLIES_FIELD = b"r"
# XRANGE and XINFO STREAM would ship the payload of the entry: only its id leaves the server.
OLDEST_ID = "local e = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]; return e and e[1]"


def model_tag(model_name: str, fingerprint: str) -> str:
    """What names a model's keys: other weights or another name never share a queue."""
    return hashlib.sha256(f"{model_name}\0{fingerprint}".encode()).hexdigest()[:16]


def worker_name(consumer: bytes) -> str:
    """The worker that a group's member is; a stranger's name need not be text."""
    return consumer.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one shard of a model's queue. `tag` comes from `model_tag`."""

    tag: str
    shard: int = 0

    @property
    def prefix(self) -> str:
        """Start of all the shard's keys; the braces alone decide on which node of a cluster they are."""
        return f"{{siglip:{self.tag}:{self.shard}}}"

    def requests(self, tower: Tower, job_class: JobClass) -> str:
        """Stream of waiting entries, read by the workers of a tower as one group."""
        return f"{self.prefix}:requests:{tower}:{job_class}"

    def all_requests(self, tower: Tower) -> list[str]:
        """Request streams of a tower, most urgent first."""
        return [self.requests(tower, job_class) for job_class in JOB_CLASSES]

    def replies(self, gateway_id: str) -> str:
        """Stream of answers to one gateway; expires unless that gateway refreshes it."""
        return f"{self.prefix}:replies:{gateway_id}"

    def lease(self, tower: Tower, worker_id: str) -> str:
        """WorkerLease of a live worker; expires soon after its last beat."""
        return f"{self.prefix}:lease:{tower}:{worker_id}"

    def running_row(self, stream: str, entry_id: bytes) -> str:
        """Row of a quarantined entry that is on the device right now: the culprit if its worker dies."""
        return f"{self.prefix}:running:{stream.rpartition('}:requests:')[2]}:{entry_id.decode()}"

    def dead_letters(self, tower: Tower) -> str:
        """Stream of headers and reasons of entries given up; never a payload."""
        return f"{self.prefix}:dead:{tower}"

    def cached(self, key: bytes) -> str:
        """CachedRow of a content; expires."""
        return f"{self.prefix}:cache:{key.hex()}"

    def label_set(self, handle: str) -> str:
        """StoredLabelSet; expires unless it is used."""
        return f"{self.prefix}:labels:{handle}"

    def label_sets(self) -> str:
        """Sorted set: handle and size of each label set, by the time of its last use."""
        return f"{self.prefix}:labels:all"
