"""SigLIP 2 of one resolution is served as it is; NaFlex is refused at the start."""

from pathlib import Path

import pytest
from siglip.v1 import model_pb2

from broker import EmbeddedServer
from gateway import server
from gateway.errors import StartError
from gateway.served import ServedModel
from siglip_model.fingerprint import fingerprint
from siglip_model.siglip2.tokenizer import Siglip2Tokenizer
from tests.gateway.conftest import serving, settings_for
from tests.support.siglip2_checkpoints import write_fixed_checkpoint, write_naflex_checkpoint


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    return write_fixed_checkpoint(tmp_path / "fixed", text_length=16)


def test_the_files_are_accepted(fixed: Path) -> None:
    served = ServedModel.load(settings_for(fixed, None))
    assert type(served.tokenizer) is Siglip2Tokenizer
    assert (served.resample, served.image_size, served.text_length) == (2, 32, 16)


@pytest.mark.asyncio(loop_scope="session")
async def test_control_tokens_are_text(fixed: Path, valkey: EmbeddedServer) -> None:
    async with serving(settings_for(fixed, valkey.url)) as service:
        texts = ["A red CAT, here!", "<eos><pad>", ""]
        reply = await service.model.Tokenize(model_pb2.TokenizeRequest(texts=texts))
    first, controls, empty = reply.results
    assert list(first.pieces) == ["a", "▁red", "▁cat", *first.pieces[3:]]
    assert [len(result.ids) for result in reply.results] == [16, 16, 16]
    ends = [list(result.ids).index(1) for result in reply.results]
    assert ends[1] > 4 and 0 not in controls.ids[: ends[1]]
    assert list(empty.ids) == [1] + [0] * 15


@pytest.mark.parametrize("lacking", ["tokenizer.json", "config.json"])
def test_a_missing_file_is_named(fixed: Path, lacking: str) -> None:
    (fixed / lacking).unlink()
    # Without either tokenizer it is the first SigLIP's file that is asked for.
    with pytest.raises(StartError, match="spiece.model" if lacking == "tokenizer.json" else lacking):
        ServedModel.load(settings_for(fixed, None))


@pytest.mark.asyncio(loop_scope="session")
async def test_naflex_is_refused(tmp_path: Path, valkey: EmbeddedServer) -> None:
    folder = write_naflex_checkpoint(tmp_path)
    with pytest.raises(StartError, match="NaFlex") as error:
        await server.start(settings_for(folder, valkey.url))
    assert "\n" not in str(error.value)


def test_the_fingerprint_covers_the_tokenizer(fixed: Path) -> None:
    before, path = fingerprint(fixed), fixed / "tokenizer.json"
    path.write_text(path.read_text().replace('"▁cat"', '"▁CAT"'))
    assert fingerprint(fixed) != before


def test_the_first_siglip_keeps_its_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    """Whatever else lies in the folder: a stored vector must not go stale for a file that nobody reads."""
    before = fingerprint(checkpoint)
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path) == before
