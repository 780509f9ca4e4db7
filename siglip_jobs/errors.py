"""What ends a job, and what fails one item of it."""

from dataclasses import dataclass


class JobError(Exception):
    """The job cannot begin or go on. The message is one line that says what to do."""


class OutputError(JobError):
    """The output folder cannot be used or written."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one item has no vector. `reason` is stable, for programs; `message` is for people."""

    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
