"""What the command's exit code means."""

OK = 0
SOME_FAILED = 1
USAGE = 2
"""Wrong usage or configuration: running the same command again cannot help."""
UNAVAILABLE = 3
"""The service could not be reached, or the call failed."""
INTERRUPTED = 130
"""Stopped by a signal, as shells report Ctrl-C."""
READER_LEFT = 141
"""Who read the output has gone, as shells report SIGPIPE."""
DEFECT = 70
"""An error that this program did not foresee (sysexits EX_SOFTWARE)."""

EPILOG = (
    "Exit codes: 0 done; 1 some items failed; 2 wrong usage or configuration; "
    "3 service unavailable or call failed."
)
