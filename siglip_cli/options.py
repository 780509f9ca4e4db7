"""Command-line options made from the settings tables, so that flag, variable and help never disagree."""

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from siglip_settings import Setting, load, settings_of

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class SettingOption(click.Option):
    """An option that knows which part of the settings it belongs to."""

    section: str = ""


class Command(click.Command):
    """A command whose settings are listed under the sentence that describes their group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title in sorted(sections, key="Options".__ne__):
            with formatter.section(title):
                formatter.write_dl(sections[title])


def settings_options(cls: type, *, may_be_absent: bool = False) -> Callable[[F], F]:
    """Decorates a command with an option for each setting of `cls`: its own first, then its bases'.

    may_be_absent: this command does without those that others require.
    """
    own_first = sorted(settings_of(cls), key=lambda setting: cls.__mro__.index(_owner(cls, setting)))

    def decorate(function: F) -> F:
        for setting in reversed(own_first):
            function = _option(setting, _sentence(_owner(cls, setting)), may_be_absent)(function)
        return function

    return decorate


def load_settings(cls: type[T], given: dict[str, Any]) -> T:
    """Settings from options and environment. Raises SettingsError."""
    return load(cls, os.environ, **given)


def _option(setting: Setting, section: str, may_be_absent: bool) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        # Values stay text: siglip_settings parses flags and variables by the same rules.
        function = click.option(
            setting.flag,
            setting.name,
            cls=SettingOption,
            type=click.Choice(setting.choices) if setting.choices else str,
            metavar=None if setting.choices else _metavar(setting),
            help=f"{setting.help} [{_default(setting, may_be_absent)}; {setting.variable}]",
        )(function)
        options: list[SettingOption] = function.__click_params__  # type: ignore[attr-defined]
        options[-1].section = section
        return function

    return decorate


def _metavar(setting: Setting) -> str:
    return (setting.unit or "text").upper()


def _default(setting: Setting, may_be_absent: bool) -> str:
    if setting.required and not may_be_absent:
        return "required"
    known = setting.default is not None and not setting.required
    return f"default {setting.default}" if known else "optional"


def _owner(cls: type, setting: Setting) -> type:
    """The class that defines the setting."""
    return next(c for c in cls.__mro__ if setting.name in inspect.get_annotations(c))


def _sentence(owner: type) -> str:
    return (owner.__doc__ or owner.__name__).splitlines()[0].rstrip(".")
