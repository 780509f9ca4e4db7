"""Every foreseen error as one line and an exit code."""

import sys

from siglip_cli import exit_codes
from siglip_settings import SettingsError

# Named, not imported: an error can only be raised by a module that is loaded already, and most
# commands must not load them all.
_KNOWN = (
    ("siglip_client.errors", "InvalidRequest", exit_codes.USAGE),
    ("siglip_client.errors", "SiglipError", exit_codes.UNAVAILABLE),
    ("siglip_search.errors", "SearchError", exit_codes.USAGE),
    ("siglip_model.files", "CheckpointError", exit_codes.USAGE),
    ("siglip_model.finetune.recipe", "TrainingError", exit_codes.USAGE),
    ("siglip_model.finetune.recipe", "Interrupted", exit_codes.INTERRUPTED),
    ("siglip_jobs.errors", "JobError", exit_codes.USAGE),
    ("gateway.errors", "StartError", exit_codes.USAGE),
    ("workers.errors", "SetupError", exit_codes.USAGE),
    ("workers.errors", "WorkerError", exit_codes.UNAVAILABLE),
    ("broker.errors", "UnusableSettings", exit_codes.USAGE),
    ("broker.errors", "BrokerError", exit_codes.UNAVAILABLE),
)


class CommandError(Exception):
    """A command cannot go on. The message is one line that says what to do."""

    def __init__(self, message: str, exit_code: int = exit_codes.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def explain(error: Exception) -> tuple[str, int] | None:
    """(line, exit code), or None for an error that nobody foresaw."""
    if isinstance(error, CommandError):
        return str(error), error.exit_code
    if isinstance(error, SettingsError):
        return str(error), exit_codes.USAGE
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed; install all with: pip install 'siglip[cli]'", exit_codes.USAGE
    for module, name, code in _KNOWN:
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
            return " ".join(str(error).split()), code
    return None
