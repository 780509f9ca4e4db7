#!/bin/sh
# Builds with Debian's packages: stubs and classes into build/, and two programs that start them.
set -eu
cd "$(dirname "$0")"
jars=/usr/share/java
classpath=
for name in grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub \
    protobuf protobuf-util proto-google-common-protos guava gson perfmark-api \
    opencensus-api netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-codec-socks \
    netty-common netty-tcnative netty-handler netty-handler-proxy netty-resolver netty-transport \
    geronimo-annotation-1.3-spec jsr305; do
    classpath="$classpath:$jars/$name.jar"
done
classpath=${classpath#:}
# TLS: Debian's netty has no ALPN but with OpenSSL, and looks for its library under another name than
# Debian's. A link does not do: the library looks at the name of what it points to.
mkdir -p build/native
cp /usr/lib/*/jni/libnetty-tcnative.so build/native/libnetty_tcnative.so

rm -rf build/stubs build/classes
mkdir -p build/stubs build/classes
protoc -I ../../protos -I debian --java_out=build/stubs \
    --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" --grpc-java_out=build/stubs \
    siglip/v1/types.proto siglip/v1/embedding.proto siglip/v1/model.proto siglip/v1/zero_shot.proto \
    google/rpc/error_info.proto
find build/stubs src/main/java -name '*.java' > build/sources
javac --release 17 -Xlint:unchecked -d build/classes -cp "$classpath" @build/sources
for program in example.Example conformance.Conformance; do
    file=build/${program%%.*}
    cat > "$file" <<END
#!/bin/sh
exec java -Djava.library.path="$PWD/build/native" -cp "$PWD/build/classes:$classpath" org.siglip.$program "\$@"
END
    chmod +x "$file"
done
