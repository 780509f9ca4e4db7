#!/bin/sh
# Builds with Debian's packages, which are no modules: GOPATH, and this folder in it by its module's name.
set -eu
cd "$(dirname "$0")"
./stubs.sh
mkdir -p build/src
ln -sfn ../.. build/src/siglipclient
export GO111MODULE=off GOPATH="$PWD/build:/usr/share/gocode" GOFLAGS=
go build -o build/example siglipclient/cmd/example
go build -o build/conformance siglipclient/cmd/conformance
