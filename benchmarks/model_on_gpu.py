"""so400m-patch14-384 in half precision on a GPU: pictures a second, and the share of its matrix rate."""

import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.interleaved import in_turns
from benchmarks.model_sizes import flops, inputs, load_reference, write_random
from siglip_model import SiglipModel

SIZE = "so400m-patch14-384"
BATCHES = (1, 8, 32, 128)
DTYPES = (torch.float16, torch.bfloat16)
MATRIX = 8192


def main(budget_s: float) -> None:
    if not torch.cuda.is_available():
        print(f"\n{SIZE} in half precision: not measured, there is no GPU here")
        return
    print(f"\n{SIZE}, vision tower, {torch.cuda.get_device_name()}")
    with tempfile.TemporaryDirectory(prefix="siglip-benchmark-") as temporary:
        folder = write_random(SIZE, Path(temporary), "cuda")
        for dtype in DTYPES:
            measure(folder, dtype, BATCHES, budget_s / 4, "cuda")


def measure(
    folder: Path,
    dtype: torch.dtype,
    batches: tuple[int, ...],
    budget_s: float,
    device: str,
    side: int = MATRIX,
) -> None:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    top = matmul_rate(dtype, device, side, budget_s)
    print(f"  {dtype}: {top / 1e12:.1f} TFLOP/s in a product of {side} x {side} matrices")
    models = loaded(folder, dtype, device)
    config = next(model.config for name, model in models.items() if name.startswith("siglip_model"))
    for batch in batches:
        given = inputs(config, "vision", batch).to(device, dtype)
        calls = {name: partial(model.vision_model, given) for name, model in models.items()}
        with torch.inference_mode():
            timed = in_turns(calls, budget_s, wait)
        for name in calls:
            per_s = batch / timed.median_s(name)
            share = per_s * flops(config, "vision") / top
            print(
                f"    batch {batch:>3}  {name:<32} {per_s:8.1f} pictures/s  {share:4.0%} of the matrix rate"
            )


def matmul_rate(dtype: torch.dtype, device: str, side: int, budget_s: float) -> float:
    """Operations a second of one large product: what the device can do at best."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    timed = in_turns({"product": partial(torch.matmul, a, b)}, budget_s / 4, wait)
    return 2.0 * side**3 / timed.median_s("product")


def loaded(folder: Path, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Ours and the reference's with each kind of attention that is installed."""
    kinds = ["sdpa"]
    if importlib.util.find_spec("flash_attn"):
        kinds.append("flash_attention_2")
    models: dict[str, Any] = {}
    for kind in kinds:
        models[f"siglip_model, {kind}"] = SiglipModel.from_pretrained(
            folder, torch_dtype=dtype, device=device, attn_implementation=kind
        )
        models[f"transformers, {kind}"] = load_reference(folder, kind, dtype, device)
    return models
