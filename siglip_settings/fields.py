"""What one setting is: a dataclass field that also knows its flag, variable, unit and help line."""

import dataclasses
import typing
from dataclasses import MISSING, Field, dataclass
from typing import Any

_KEY = "siglip_setting"
PREFIX = "SIGLIP_"


def setting(
    default: Any = MISSING,
    *,
    help: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
) -> Any:
    """Defines a setting as a dataclass field. Without a default it must be given.

    `minimum` and `maximum` are inclusive; `secret` values are masked when shown.
    """
    about = {"help": help, "unit": unit, "minimum": minimum, "maximum": maximum, "secret": secret}
    return dataclasses.field(default=default, metadata={_KEY: about})


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as the command line, the environment and the documentation see it."""

    name: str
    kind: Any
    """The field's annotation: str, int, float, bool, `str | None` or a Literal of strings."""
    default: Any
    help: str
    unit: str
    minimum: float | None
    maximum: float | None
    secret: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values of a Literal; empty for other kinds."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else ()


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The settings of a settings class, in the order of definition."""
    kinds = typing.get_type_hints(cls)
    return tuple(_read(field, kinds[field.name]) for field in dataclasses.fields(cls))


def _read(field: "Field[Any]", kind: Any) -> Setting:
    about = field.metadata.get(_KEY)
    if about is None:
        raise TypeError(f"{field.name} is a plain field; define it with setting(...)")
    return Setting(name=field.name, kind=kind, default=field.default, **about)
