"""This worker's end of the queue."""

import logging
import os
import socket
import uuid
from pathlib import Path

from broker import BrokerError, WorkerEnd, WorkerInfo, model_tag, worker_end
from siglip_model.fingerprint import fingerprint
from siglip_settings import WorkerSettings
from workers.errors import SetupError

log = logging.getLogger(__name__)


def connect(settings: WorkerSettings, folder: Path, *, device: str, dtype: str, attention: str) -> WorkerEnd:
    """Names the queue after the checkpoint in `folder`, and this worker after nobody else.

    Connects later. Raises SetupError for an unusable URL, CheckpointError for the folder.
    """
    digest = fingerprint(folder)
    info = WorkerInfo(
        worker_id=uuid.uuid4().hex,
        tower=settings.tower,
        device=device,
        dtype=dtype,
        attention=attention,
        fingerprint=digest,
        model=settings.served_name,
        host=socket.gethostname(),
        pid=os.getpid(),
    )
    tag = model_tag(settings.served_name, digest)
    try:
        broker = worker_end(settings, tag=tag, tower=settings.tower, fingerprint=digest, info=info)
    except BrokerError as error:
        raise SetupError(str(error)) from error
    # A gateway finds this worker only by the same name and the same fingerprint.
    log.info("works for gateways that serve %r, fingerprint %s", settings.served_name, digest)
    return broker
