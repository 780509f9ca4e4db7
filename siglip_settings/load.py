"""Puts settings together: what is given wins over the environment, and that over the default."""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from siglip_settings.errors import SettingsError
from siglip_settings.fields import PREFIX, Setting, settings_of
from siglip_settings.tables import JobSettings, ServeSettings, TrainSettings, WorkerSettings

T = TypeVar("T")

KIND_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """The value of a setting and where it came from: "default", or the flag or variable."""

    setting: Setting
    value: Any
    source: str


def all_settings() -> dict[str, Setting]:
    """Every setting of every process, by name."""
    classes = (ServeSettings, WorkerSettings, JobSettings, TrainSettings)
    return {s.name: s for cls in classes for s in settings_of(cls)}


def load(cls: type[T], environ: Mapping[str, str], **given: Any) -> T:
    """Builds `cls`; arguments that are None count as not given.

    Raises SettingsError for an unknown SIGLIP_* variable, a bad value, or a missing required setting.
    """
    known = {s.name for s in settings_of(cls)}
    if strange := sorted(given.keys() - known):
        raise TypeError(f"{cls.__name__} has no setting {strange[0]!r}")
    refuse_unknown(environ)
    values = {s.name: _required(resolve(s, environ, given.get(s.name))).value for s in settings_of(cls)}
    return cls(**values)


def resolve(setting: Setting, environ: Mapping[str, str], given: Any = None) -> Resolved:
    """One setting's value; MISSING for an absent required one. An empty variable counts as absent."""
    if given is not None:
        return Resolved(setting, _parse(setting, given, setting.flag), setting.flag)
    if text := environ.get(setting.variable):
        return Resolved(setting, _parse(setting, text, setting.variable), setting.variable)
    return Resolved(setting, setting.default, "default")


def refuse_unknown(environ: Iterable[str]) -> None:
    """Raises SettingsError for the first variable that begins with SIGLIP_ and names no setting."""
    variables = [s.variable for s in all_settings().values()]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in variables:
            near = difflib.get_close_matches(name, variables, n=1, cutoff=0.0)
            raise SettingsError(f"{name} is not a setting; the nearest is {near[0]}. Unset it or correct it.")


def _required(found: Resolved) -> Resolved:
    setting = found.setting
    if setting.required and found.source == "default":
        raise SettingsError(f"{setting.flag} is required (or set {setting.variable}): {setting.help}")
    return found


def _parse(setting: Setting, value: Any, source: str) -> Any:
    kind = _plain(setting.kind)
    if setting.choices:
        if value not in setting.choices:
            raise SettingsError(f"{source} is {value!r}; allowed: {', '.join(setting.choices)}")
        return value
    try:
        parsed = _convert(kind, value)
    except ValueError:
        raise SettingsError(
            f"{source} is {value!r}; it must be {KIND_NAMES[kind]}{_range(setting)}"
        ) from None
    if _outside(setting, parsed):
        raise SettingsError(f"{source} is {value!r}; it must be {KIND_NAMES[kind]}{_range(setting)}")
    return parsed


def _plain(kind: Any) -> Any:
    """`str | None` -> str."""
    if isinstance(kind, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _convert(kind: Any, value: Any) -> Any:
    if kind is str or isinstance(value, str):
        return kind(value)
    if isinstance(value, bool) or (kind is int and not isinstance(value, int)):
        raise ValueError(value)
    return kind(value)


def _outside(setting: Setting, value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return True
    low, high = setting.minimum, setting.maximum
    return (low is not None and value < low) or (high is not None and value > high)


def _range(setting: Setting) -> str:
    parts = [f"at least {setting.minimum}"] if setting.minimum is not None else []
    parts += [f"at most {setting.maximum}"] if setting.maximum is not None else []
    return (", " + ", ".join(parts) if parts else "") + (f" ({setting.unit})" if setting.unit else "")
