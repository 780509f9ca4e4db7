"""What can go wrong with a worker as a whole.

WorkerError
|-- SetupError    it cannot start as it was told to: exit status 2
|-- DeviceLost    the device no longer computes a known good row: exit status 1, the work is redelivered
`-- DeviceHangs   the device does not return from a batch: exit status 1, the work is redelivered
"""


class WorkerError(Exception):
    """The message is one line, ready to show."""


class SetupError(WorkerError):
    pass


class DeviceLost(WorkerError):
    pass


class DeviceHangs(WorkerError):
    pass
