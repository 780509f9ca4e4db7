"""Who may do what in Redis: one user for each kind of process, with no more than it needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["gateway", "worker", "operator", "scaler"]
ROLES: tuple[Role, ...] = get_args(Role)

# Commands by the kind of key that they are sent for, as keys are named in `broker.keys`; "": for no key.
# A gateway cannot read what others ask, a worker cannot read what was answered.
COMMANDS: dict[Role, dict[str, str]] = {
    "gateway": {
        "": "time info role cluster|slots",
        "requests": "xadd xdel xlen xpending xgroup|create xinfo|consumers",
        "replies": "xadd xread xtrim xgroup|create pexpire del",
        "lease": "mget",
        "labels": "get set pexpire del zadd zrange zrem",
        "cache": "mget set",
    },
    "worker": {
        "requests": "xlen xreadgroup xack xdel xclaim xpending watch"
        " xgroup|create xgroup|createconsumer xgroup|delconsumer xinfo|consumers",
        "replies": "xadd",
        "lease": "mget set pexpire del",
        "running": "get set del",
        "dead": "xadd expire",
        "": "time info role cluster|slots unwatch multi exec",
    },
    # `siglip doctor`, `top` and `dead-letter`.
    "operator": {
        "": "time info role cluster|slots scan",
        # Only a script gets an entry's age without its content.
        "requests": "xlen xpending eval_ro xrange",
        "lease": "mget",
        "dead": "xlen xrevrange xdel",
    },
    # What adds and removes workers by the length of a stream.
    "scaler": {"": "ping time", "requests": "xlen"},
}
# Without these a process works, but knows less; or needs them only behind Sentinels or in a cluster.
OPTIONAL = frozenset({"info", "role", "cluster|slots"})
# A gateway needs these only where it is told to share its cache.
ON_DEMAND = frozenset({"cache"})
_READING = frozenset({"eval_ro", "get", "mget", "xlen", "xpending", "xrange", "xrevrange"})


@dataclass(frozen=True, slots=True)
class Permission:
    """One command for one kind of key."""

    command: str
    kind: str = ""

    @property
    def is_on_demand(self) -> bool:
        """Only some processes of the role need it."""
        return self.kind in ON_DEMAND

    @property
    def is_optional(self) -> bool:
        """A process of the role starts without it."""
        return self.command in OPTIONAL or self.is_on_demand

    def __str__(self) -> str:
        name = self.command.upper().replace("|", " ")
        return f"{name} ({self.kind})" if self.kind else name


def permissions_of(role: Role) -> Iterator[Permission]:
    """Every command that the role sends."""
    for kind, commands in COMMANDS[role].items():
        yield from (Permission(command, kind) for command in commands.split())


def rules_of(role: Role) -> str:
    """The role as rules of ACL SETUSER, for Redis >= 7.0 and Valkey >= 7.2; the user can do nothing else."""
    return " ".join(_grant(kind, commands.split()) for kind, commands in COMMANDS[role].items())


def _grant(kind: str, commands: list[str]) -> str:
    allowed = " ".join(f"+{command}" for command in commands)
    if not kind:
        return allowed
    access = "%R~" if _READING.issuperset(commands) else "~"
    return f"({access}{{siglip:*}}:{kind}:* {allowed})"
