"""Tries what a role may send, on keys that do not exist: nothing is changed, and nothing is left."""

import secrets
from collections.abc import Iterable, Sequence
from contextlib import closing

import redis
import redis.asyncio
from redis.exceptions import ExecAbortError, NoPermissionError, RedisError

from broker.connection import check_files, sync_client, unavailable
from broker.finding import place_of
from broker.jobs import RedisUrls
from broker.keys import GROUP, Keys
from broker.roles import Permission, Role, permissions_of

_TRIALS = {
    "cluster|slots": "",
    "del": "{key}",
    "eval_ro": "return(1) 1 {key}",
    "exec": "",
    "expire": "{key} 1",
    "get": "{key}",
    "info": "server",
    "mget": "{key}",
    "multi": "",
    "pexpire": "{key} 1",
    "ping": "",
    "role": "",
    "scan": "0 COUNT 1",
    "set": "{key} 1 XX PX 1",
    "time": "",
    "unwatch": "",
    "watch": "{key}",
    "xack": "{key} {group} 1-1",
    "xadd": "{key} NOMKSTREAM * h x",
    "xclaim": "{key} {group} me 0 1-1",
    "xdel": "{key} 1-1",
    "xgroup|create": "{key} {group} 0",
    "xgroup|createconsumer": "{key} {group} me",
    "xgroup|delconsumer": "{key} {group} me",
    "xinfo|consumers": "{key} {group}",
    "xlen": "{key}",
    "xpending": "{key} {group}",
    "xrange": "{key} - + COUNT 1",
    "xread": "COUNT 1 STREAMS {key} 0",
    "xreadgroup": "GROUP {group} me COUNT 1 STREAMS {key} >",
    "xrevrange": "{key} + - COUNT 1",
    "xtrim": "{key} MINID 1",
    "zadd": "{key} XX 1 x",
    "zrange": "{key} 0 0",
    "zrem": "{key} x",
}


def denied_commands(settings: RedisUrls, role: Role) -> list[Permission]:
    """What this user may not do of what the role does. Raises BrokerUnavailable."""
    check_files(settings)
    keys = Keys(f"check-{secrets.token_hex(4)}")
    with closing(sync_client(settings, place_of(settings, keys.requests("text", "interactive")))) as client:
        try:
            return _denied(permissions_of(role), _send(client, role, keys))
        except (RedisError, OSError) as error:
            raise unavailable(settings, error) from error


def require(client: redis.Redis, role: Role, keys: Keys) -> None:
    """NoPermissionError with all that this user lacks to work in this role."""
    _require(role, _send(client, role, keys))


async def require_async(client: "redis.asyncio.Redis", role: Role, keys: Keys) -> None:
    """The same."""
    pipe = client.pipeline(transaction=False)
    for trial in _trials_of(permissions_of(role), keys):
        pipe.pipeline_execute_command(*trial)  # type: ignore[no-untyped-call]
    _require(role, await pipe.execute(raise_on_error=False))


async def require_on_demand(client: "redis.asyncio.Redis", role: Role, keys: Keys, kind: str) -> None:
    """NoPermissionError with what this user lacks of what the role does with such keys."""
    wanted = [each for each in permissions_of(role) if each.kind == kind]
    pipe = client.pipeline(transaction=False)
    for trial in _trials_of(wanted, keys):
        pipe.pipeline_execute_command(*trial)  # type: ignore[no-untyped-call]
    _refuse(role, _denied(wanted, await pipe.execute(raise_on_error=False)))


def _send(client: redis.Redis, role: Role, keys: Keys) -> list[object]:
    pipe = client.pipeline(transaction=False)
    for trial in _trials_of(permissions_of(role), keys):
        # Unlike execute_command this also puts WATCH into the line.
        pipe.pipeline_execute_command(*trial)
    return pipe.execute(raise_on_error=False)


def _trials_of(permissions: Iterable[Permission], keys: Keys) -> list[list[str]]:
    return [_trial(each, f"{keys.prefix}:{each.kind}:trial") for each in permissions]


def _trial(permission: Permission, key: str) -> list[str]:
    words = _TRIALS[permission.command].format(key=key, group=GROUP)
    return [*permission.command.upper().split("|"), *words.split()]


def _denied(permissions: Iterable[Permission], results: Sequence[object]) -> list[Permission]:
    pairs = zip(permissions, results, strict=True)
    return [permission for permission, result in pairs if _is_denial(result)]


def _is_denial(result: object) -> bool:
    """Other errors are no matter: the keys are not there."""
    # A denied EXEC is told as the end of its transaction.
    return isinstance(result, NoPermissionError) or (
        isinstance(result, ExecAbortError) and "NOPERM" in str(result)
    )


def _require(role: Role, results: Sequence[object]) -> None:
    _refuse(role, [each for each in _denied(permissions_of(role), results) if not each.is_optional])


def _refuse(role: Role, denied: list[Permission]) -> None:
    if denied:
        names = ", ".join(map(str, denied))
        raise NoPermissionError(
            f"a {role} needs more than this user may do: {names}; 'siglip acl {role}' prints the rules"
        )
