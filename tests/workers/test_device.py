"""What `auto` becomes, and which devices are refused."""

import sys

import pytest
import torch

from siglip_settings import WorkerSettings
from tests.support import flash_attn_stand_in
from workers.device import apply_threads, choose
from workers.errors import SetupError


def settings(**given: object) -> WorkerSettings:
    return WorkerSettings(model="any", tower="text", **given)  # type: ignore[arg-type]


def test_auto_on_a_cpu() -> None:
    compute = choose(settings(device="cpu"))
    assert (compute.dtype_name, compute.attention) == ("float32", "sdpa")
    assert compute.threads >= 1


def test_auto_takes_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    compute = choose(settings())
    assert (str(compute.device), compute.dtype_name, compute.attention) == ("cuda:0", "bfloat16", "sdpa")


def test_given_values_are_taken() -> None:
    compute = choose(settings(device="cpu", dtype="float16", attention="eager", threads=3))
    assert (compute.dtype_name, compute.attention, compute.threads) == ("float16", "eager", 3)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(SetupError, match="allowed: auto, cpu, cuda, cuda:N, mps"):
        choose(settings(device=name))


def test_absent_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose(settings(device="cuda:1")).device.index == 1
    with pytest.raises(SetupError, match=r"'cuda:2', but torch .* sees 2 of that kind"):
        choose(settings(device="cuda:2"))


def test_flash_needs_half_precision_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    flash = {"device": "cpu", "attention": "flash_attention_2"}
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(SetupError, match="computes in float16 or bfloat16: set --dtype"):
        choose(settings(**flash))
    with pytest.raises(SetupError, match="flash-attn package is not installed"):
        choose(settings(**flash, dtype="bfloat16"))
    flash_attn_stand_in.install(monkeypatch)
    assert choose(settings(**flash, dtype="bfloat16")).attention == "flash_attention_2"


def test_auto_takes_flash_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    flash_attn_stand_in.install(monkeypatch)
    assert choose(settings()).attention == "flash_attention_2"
    assert choose(settings(dtype="float32")).attention == "sdpa"


def test_threads_are_applied() -> None:
    before = torch.get_num_threads()
    apply_threads(1)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
