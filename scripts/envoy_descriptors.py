"""Writes deploy/envoy/siglip.binpb, from which Envoy translates JSON; with --check only compares."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from google.rpc import error_details_pb2

ROOT = Path(__file__).parent.parent
DESCRIPTORS = Path("deploy") / "envoy" / "siglip.binpb"
# Named by nothing in the contract: they are what the details of an error are made of.
DETAILS = ("google/rpc/error_details.proto", "google/rpc/status.proto")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    made, kept = descriptors(arguments.root / "protos"), arguments.root / DESCRIPTORS
    if not arguments.check:
        kept.write_bytes(made)
    elif not kept.exists() or kept.read_bytes() != made:
        print(f"stale: {DESCRIPTORS} (run make envoy-descriptors)", file=sys.stderr)
        return 1
    return 0


def descriptors(protos: Path) -> bytes:
    """A FileDescriptorSet of the public contract and of all that it needs, without comments."""
    shared = Path(error_details_pb2.__file__).parents[2]
    files = [str(file) for file in sorted((protos / "siglip" / "v1").glob("*.proto"))]
    with tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(protos), "-I", str(shared)]
        options = ["--include_imports", f"--descriptor_set_out={out.name}"]
        subprocess.run([*command, *options, *files, *DETAILS], check=True)
        return Path(out.name).read_bytes()


if __name__ == "__main__":
    sys.exit(main())
