"""Calls the service for any number of items, a block at a time, so that memory stays small."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from siglip_cli import exit_codes, images
from siglip_cli.errors import CommandError
from siglip_cli.refusals import tls_remedy
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    from siglip_client import Client, ItemError

Answer = TypeVar("Answer")

CALLS_AT_A_TIME = 4
"""What is held at a time fills this many calls, some of which the client has on the way together."""
MAX_BLOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one item has no answer, wherever that was found."""

    reason: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Item(Generic[Answer]):
    """One thing that was asked about, in the order asked, and its answer."""

    name: str
    answer: Answer | Failure


def open_client(settings: ClientSettings, **options: Any) -> "Client":
    """A client, which has not called yet. Raises CommandError for settings that cannot work."""
    from siglip_client import Client

    if not settings.address.isprintable():  # gRPC would raise, or try to reach it
        raise CommandError(f"--address is {settings.address!r}, which no address can be")
    if not (settings.served_model or "").isprintable():
        raise CommandError(f"--served-model is {settings.served_model!r}, which no model can be named")
    try:
        return Client(
            settings.address,
            model=settings.served_model or "",
            timeout_s=settings.timeout_s,
            **_access(settings),
            **options,
        )
    except OSError as error:
        raise CommandError(f"cannot use TLS: {error.filename}: {error.strerror}") from error
    except ValueError as error:  # a token that would travel in clear, a file that holds no certificate
        raise CommandError(str(error)) from error


@contextmanager
def connected(settings: ClientSettings) -> Iterator["Client"]:
    """A client; if nobody listens, the error says what to do."""
    opened = open_client(settings)
    from siglip_client import DeadlineExceeded, Unauthenticated, Unavailable

    try:
        with opened as client:
            yield client
    except Unavailable as error:
        start = "start it with 'siglip serve', or give its --address (SIGLIP_ADDRESS)"
        hint = tls_remedy(error, settings) or start
        message = f"the service at {settings.address} is not available ({error}); {hint}"
        raise CommandError(message, exit_codes.UNAVAILABLE) from error
    except Unauthenticated as error:
        raise CommandError(f"{error}; give --token (SIGLIP_TOKEN)", exit_codes.UNAVAILABLE) from error
    except DeadlineExceeded as error:
        hint = "if it runs ('siglip serve'), allow more with --timeout-s"
        message = f"no answer from {settings.address} within {settings.timeout_s:g} s; {hint}"
        raise CommandError(message, exit_codes.UNAVAILABLE) from error


def _access(settings: ClientSettings) -> dict[str, Any]:
    """The client's arguments for TLS, token and priority."""
    return {
        "tls": settings.tls == "on",
        "ca_file": settings.ca_file,
        "cert_file": settings.cert_file,
        "key_file": settings.key_file,
        "token": settings.token,
        "priority": settings.priority,
    }


def ask_about_images(
    client: "Client",
    arguments: Sequence[str],
    ask: Callable[[list[bytes]], Sequence[Answer | Failure]],
    reading: images.Reading = images.DEFAULT,
) -> Iterator[Item[Answer]]:
    """One item for each image that `arguments` name; what cannot be read is answered here."""
    sources = images.find(arguments, reading)
    limits = client.get_model().limits
    loaded = ((source.name, _load(source, limits.max_image_bytes)) for source in sources)
    for block in blocks(loaded, limits.max_images * CALLS_AT_A_TIME):
        readable = [data for _, data in block if isinstance(data, bytes)]
        answers = iter(ask(readable) if readable else [])
        for name, data in block:
            yield Item(name, data if isinstance(data, Failure) else next(answers))


def ask_about_texts(
    client: "Client", texts: Sequence[str], ask: Callable[[Sequence[str]], Sequence[Answer | Failure]]
) -> Iterator[Item[Answer]]:
    """One item for each text."""
    size = client.get_model().limits.max_texts * CALLS_AT_A_TIME
    for start in range(0, len(texts), size):
        block = texts[start : start + size]
        for text, answer in zip(block, ask(block), strict=True):
            yield Item(text, answer)


def blocks(
    loaded: Iterable[tuple[str, bytes | Failure]], max_items: int, max_bytes: int = MAX_BLOCK_BYTES
) -> Iterator[list[tuple[str, bytes | Failure]]]:
    """Groups consecutive items; a group ends when it has so many items or bytes."""
    block: list[tuple[str, bytes | Failure]] = []
    held_bytes = 0
    for name, data in loaded:
        block.append((name, data))
        held_bytes += len(data) if isinstance(data, bytes) else 0
        if len(block) >= max_items or held_bytes >= max_bytes:
            yield block
            block, held_bytes = [], 0
    if block:
        yield block


def failure(error: "ItemError") -> Failure:
    """What the service said of one item."""
    return Failure(error.reason, error.message, error.retryable)


def _load(source: images.Source, max_bytes: int) -> bytes | Failure:
    try:
        return images.read(source, max_bytes)
    except images.Unreadable as error:
        return Failure(error.reason, str(error))
