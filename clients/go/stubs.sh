#!/bin/sh
# Generates the stubs into build/siglip/v1.
set -eu
cd "$(dirname "$0")"
mkdir -p build
options=
for name in types embedding model zero_shot; do
    place="Msiglip/v1/$name.proto=siglipclient/build/siglip/v1"
    options="$options --go_opt=$place --go-grpc_opt=$place"
done
# shellcheck disable=SC2086
protoc -I ../../protos $options \
    --go_out=build --go_opt=paths=source_relative \
    --go-grpc_out=build --go-grpc_opt=paths=source_relative \
    ../../protos/siglip/v1/*.proto
