"""Checkpoints of strangers: one file of a folder is replaced; the gateway reads it, or says why not."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gateway.errors import StartError
from gateway.served import ServedModel
from siglip_settings import GatewaySettings
from tests.support.checkpoints import write_tiny_checkpoint

FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors",
)
# Not spiece.model: SentencePiece's own reader takes it, and a hostile one may end the process.


@cache
def tiny() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="siglip-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_tiny_checkpoint(folder)


@cache
def original(name: str) -> bytes:
    return (tiny() / name).read_bytes()


def seeds() -> Iterator[bytes]:
    for number, name in enumerate(FILES):
        yield bytes([number]) + original(name)[:6000]


def check(data: bytes) -> None:
    name = FILES[data[0] % len(FILES)] if data else FILES[0]
    whole = original(name)
    # Weights are long: the input is their beginning, which holds the header.
    (tiny() / name).write_bytes(data[1:] + whole[len(data) - 1 :] * (name == "model.safetensors"))
    try:
        ServedModel.load(GatewaySettings(model=str(tiny())))
    except StartError as error:
        assert str(error)
    finally:
        (tiny() / name).write_bytes(whole)
