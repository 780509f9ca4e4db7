"""The sigmoid loss and its gradients: time and peak memory of three ways, for one batch of pairs."""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine
from siglip_model.chunked_loss import chunked_sigmoid_loss
from siglip_model.loss import sigmoid_loss

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def written_out(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """As the formula stands, which is how the reference computes it."""
    logits = y @ x.t() * scale.exp() + bias
    eye = torch.eye(logits.shape[0])
    signs = -torch.ones_like(logits) + 2 * eye
    return -torch.sum(F.logsigmoid(signs * logits), dim=-1).mean()


def whole(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return sigmoid_loss(x @ y.t() * scale.exp() + bias)


WAYS: dict[str, Loss] = {
    "the formula written out": written_out,
    "sigmoid_loss": whole,
    "chunked_sigmoid_loss": chunked_sigmoid_loss,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=4096, help="of one batch [%(default)d]")
    parser.add_argument("--width", type=int, default=768, help="of an embedding [%(default)d]")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(WAYS[arguments.way], arguments.pairs, arguments.width)))
        return
    print(machine.describe())
    print(f"\n{arguments.pairs} pairs of {arguments.width} numbers, loss and gradients, float32")
    rows = {way: in_a_process(way, arguments.pairs, arguments.width) for way in WAYS}
    first_s, first_bytes, _ = next(iter(rows.values()))
    for way, (seconds, peak_bytes, loss) in rows.items():
        took = f"{seconds * 1000:7.0f} ms ({seconds / first_s:.2f})"
        held = f"{peak_bytes / 2**20:6.0f} MiB above the embeddings ({peak_bytes / first_bytes:.2f})"
        print(f"{way:26s} {took}   {held}   loss {loss:.6f}")


def in_a_process(way: str, pairs: int, width: int) -> tuple[float, float, float]:
    """In a fresh one, whose peak memory is of this way alone."""
    command = [sys.executable, "-m", "benchmarks.loss", "--way", way, f"--pairs={pairs}", f"--width={width}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak_bytes, loss = json.loads(done.stdout)
    return seconds, peak_bytes, loss


def measure(loss: Loss, pairs: int, width: int) -> tuple[float, float, float]:
    """Median seconds of five, peak bytes, and the loss."""
    torch.manual_seed(0)
    x, y = (F.normalize(torch.randn(pairs, width)).requires_grad_() for _ in range(2))
    scale, bias = (torch.tensor([value], requires_grad=True) for value in (2.3, -10.0))
    torch.autograd.backward(loss(x[:64], y[:64], scale, bias))  # what is loaded once is no part of it
    before = peak()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        value = loss(x, y, scale, bias)
        torch.autograd.backward(value)
        times.append(time.perf_counter() - started)
    return sorted(times)[2], peak() - before, value.item()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
