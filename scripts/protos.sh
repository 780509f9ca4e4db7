#!/usr/bin/env bash
# Generates the Python code of the protos beside them; with --check only compares.
# Usage: scripts/protos.sh [--check]      (PYTHON names the interpreter to use)
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
out=protos
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
# The internal contract has messages only, so it gets no gRPC stubs; types.proto has no service.
"$python" -m grpc_tools.protoc -I protos --python_out="$out" --pyi_out="$out" $(find protos -name '*.proto' | sort)
"$python" -m grpc_tools.protoc -I protos --grpc_python_out="$out" $(grep -rl '^service ' protos --include='*.proto' | sort)
[ "$out" = protos ] && exit 0
stale=0
for made in $(cd "$out" && find . -name '*_pb2*'); do
    cmp -s "$out/$made" "protos/$made" || { echo "stale: protos/${made#./} (run make protos)" >&2; stale=1; }
done
for kept in $(cd protos && find . -name '*_pb2*.py*' -not -path '*/__pycache__/*'); do
    [ -e "$out/$kept" ] || { echo "left over: protos/${kept#./} (delete it)" >&2; stale=1; }
done
exit $stale
