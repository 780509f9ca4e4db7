"""The Redis users of the product's roles on a test's server."""

import contextlib

import redis

from broker import ROLES, Role, rules_of
from tests.support.valkey import looking

PASSWORD = "pass-word"


def add_users(url: str) -> None:
    """One for each role, named after it."""
    for role in ROLES:
        set_user(url, role, rules_of(role))


def set_user(url: str, name: str, rules: str) -> None:
    with looking(url) as connection:
        connection.execute_command("ACL", "SETUSER", name, *f"reset on >{PASSWORD} {rules}".split())


def rules_of_both_ends() -> str:
    """Of one user for gateway and worker, who may do what both need but INFO."""
    return f"on >{PASSWORD} {rules_of('gateway')} {rules_of('worker')}".replace("+info", "")


def as_user(url: str, name: str) -> str:
    scheme, _, place = url.partition("://")
    return f"{scheme}://{name}:{PASSWORD}@{place}"


def as_role(url: str, role: Role) -> str:
    """The role's user where the server has one and `url` names nobody."""
    if "@" in url or not url.startswith(("unix://", "redis://")):
        return url
    with looking(url) as connection, contextlib.suppress(redis.ConnectionError):
        if role in connection.acl_users():
            return as_user(url, role)
    return url
