"""What is wrong with settings."""


class SettingsError(ValueError):
    """A setting is unknown, missing or out of its range. The message is one line, ready to show."""
