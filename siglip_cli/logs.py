"""Log lines of the service's processes, on standard error."""

import json
import logging
import sys
import time
from typing import Any

from siglip_cli.output import one_line

TEXT = "%(asctime)s.%(msecs)03dZ %(levelname)s {process}[%(process)d] %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S"


class _Utc(logging.Formatter):
    def converter(self, timestamp: float | None) -> time.struct_time:
        return time.gmtime(timestamp)


class JsonLines(_Utc):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__(datefmt=TIME)
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{self.formatTime(record, TIME)}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            # What a logger gave beside its words: log.info(..., extra={"fields": {...}}).
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(_Utc):
    """Time in UTC, level, process and message. Nothing in a message, or in an error, begins another line."""

    def __init__(self, process: str) -> None:
        super().__init__(TEXT.format(process=process), TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {one_line(line)}" for line in super().formatException(ei).splitlines())


def start_logging(log_format: str, log_level: str, process: str) -> None:
    """Sends every logger's lines of at least `log_level` to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextLines(process) if text else JsonLines(process))
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)
    # It writes out what it cannot read of a stranger's headers, tokens among them.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
