"""Tries every command that gateways and workers send, on keys of its own."""

import secrets
from contextlib import closing, suppress
from typing import Any

from redis.exceptions import ExecAbortError, NoPermissionError, RedisError, ResponseError

from broker.connection import shown_url, sync_client, unavailable
from broker.errors import BrokerUnavailable
from broker.jobs import RedisUrls
from broker.keys import GROUP, Keys


def require_commands(settings: RedisUrls) -> None:
    """Raises BrokerUnavailable that names what this user lacks: better now than over somebody's work.

    Raises RedisError or OSError where Redis cannot be asked.
    """
    if denied := _denied(settings):
        raise BrokerUnavailable(f"Redis at {shown_url(settings)}: this user may not send {', '.join(denied)}")


def denied_commands(settings: RedisUrls) -> list[str]:
    """Those that this user may not send. Raises BrokerUnavailable. INFO may be denied, and is not named."""
    try:
        return _denied(settings)
    except (RedisError, OSError) as error:
        raise unavailable(settings, error) from error


def _denied(settings: RedisUrls) -> list[str]:
    keys = Keys(f"check-{secrets.token_hex(4)}")
    stream, key = keys.requests("text", "interactive"), keys.lease("text", "check")
    with closing(sync_client(settings)) as client:
        denied = [name for name, command in _commands(stream, key) if _is_denied(client, command)]
        with suppress(NoPermissionError):
            client.delete(stream, key)
    return denied


def _commands(stream: str, key: str) -> list[tuple[str, list[Any]]]:
    lines = [
        f"TIME|PING|XGROUP CREATE {stream} {GROUP} 0 MKSTREAM|XGROUP CREATECONSUMER {stream} {GROUP} me",
        f"XADD {stream} 1-1 h x|XLEN {stream}|XREAD COUNT 1 STREAMS {stream} 0",
        f"XREADGROUP GROUP {GROUP} me COUNT 1 STREAMS {stream} >|XPENDING {stream} {GROUP}",
        f"XINFO CONSUMERS {stream} {GROUP}|XCLAIM {stream} {GROUP} me 0 1-1",
        f"XACK {stream} {GROUP} 1-1|XDEL {stream} 1-1|XTRIM {stream} MINID 2",
        f"XGROUP DELCONSUMER {stream} {GROUP} me|SET {key} 1 PX 5000|GET {key}|MGET {key}",
        f"PEXPIRE {stream} 5000|EXPIRE {stream} 5|WATCH {stream}|UNWATCH|MULTI|EXEC|DEL {key}",
    ]
    commands = [command.split() for line in lines for command in line.split("|")]
    return [(_name(words), list(words)) for words in commands]


def _name(words: list[str]) -> str:
    return " ".join(words[:2]) if words[0] in ("XGROUP", "XINFO") else words[0]


def _is_denied(client: Any, command: list[Any]) -> bool:
    try:
        client.execute_command(*command)
    except (NoPermissionError, ExecAbortError):  # the latter when EXEC itself is denied
        return True
    except ResponseError:  # after a denied one another may make no sense
        return False
    return False
