"""The calls by themselves: the same client, and a server that answers without doing anything."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from siglip.v1 import model_pb2, model_pb2_grpc

from benchmarks.service.book import Measured
from benchmarks.service.unit import Unit, summed


@contextmanager
def echo_server(address: str) -> Iterator[str]:
    """Address of one that describes its model as the service at `address` does."""
    with grpc.insecure_channel(address) as channel:
        model = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest())
    command = [sys.executable, "-m", "benchmarks.service.echo_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(model.SerializeToString())
        process.stdin.close()
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def unit(found: Measured) -> Unit:
    """Of the processes of this measurement alone: the idle service's do not count."""
    cpu_us = {name: us for name, us in found.cpu_us.items() if name in ("client", "echo server")}
    shares = ", ".join(f"{name} {us:.0f} µs" for name, us in cpu_us.items())
    return Unit(found.rate, summed(cpu_us), shares)
