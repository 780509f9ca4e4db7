"""Writes docs/api.md from the comments of the public protos; with --check only compares."""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    MethodOptions,
    ServiceDescriptorProto,
)

from siglip_settings import GatewaySettings, settings_of

ROOT = Path(__file__).parent.parent
PAGE = Path("docs") / "api.md"

INTRO = """\
# The API

Services, methods and messages of package `siglip.v1`, from the comments in
[`protos/siglip/v1`](../protos/siglip/v1); `make api-docs` writes this page. What may change in them:
[Compatibility](compatibility.md).

- A method is called by its full name, for example `/siglip.v1.EmbeddingService/EmbedTexts`, over HTTP/2 with
  any gRPC library. Browsers and `curl` go through [Envoy](../deploy/envoy/README.md). The Python client is in
  the [README](../README.md#use-it).
- A call that fails has a gRPC code and, in its details, a `google.rpc.ErrorInfo` with a stable `reason`: see
  [Errors](operations.md#errors). A bad item of a call that succeeds has an [ItemError](#itemerror) instead.
- Metadata that a call may carry: `authorization: Bearer TOKEN` and `siglip-priority: batch`
  ([Who may call](operations.md#who-may-call)), `x-request-id`, which comes back with the reply and stands in
  the log, and `traceparent` ([Traces](operations.md#traces)).
- A field that is not set has the value 0, empty or false, unless its text names another. `optional` fields
  can tell not set from 0.
"""

IDEMPOTENCY = {
    MethodOptions.NO_SIDE_EFFECTS: "Changes nothing, so it may be sent again.",
    MethodOptions.IDEMPOTENT: "May be sent again: the second call changes nothing more.",
}

# Path of a declaration within its file, as descriptor.proto counts; the numbers are its field numbers.
Place = tuple[int, ...]
SERVICES, MESSAGES, ENUMS, METHODS, FIELDS, VALUES = 6, 4, 5, 2, 2, 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    made, page = api_page(arguments.root / "protos"), arguments.root / PAGE
    if not arguments.check:
        page.write_text(made, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != made:
        print(f"stale: {PAGE} (run make api-docs)", file=sys.stderr)
        return 1
    return 0


def api_page(protos: Path) -> str:
    """The page of the public contract in `protos`."""
    files = [Source(file) for file in descriptors(protos)]
    names = {name for file in files for name in file.names()}
    blocks = [contents(files), *(block for kind in Source.KINDS for file in files for block in kind(file))]
    return "\n".join([INTRO, *(linked(block, names) for block in blocks)])


def descriptors(protos: Path) -> list[FileDescriptorProto]:
    with tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(protos), "--include_source_info"]
        files = sorted((protos / "siglip" / "v1").glob("*.proto"))
        subprocess.run([*command, f"--descriptor_set_out={out.name}", *map(str, files)], check=True)
        return list(FileDescriptorSet.FromString(Path(out.name).read_bytes()).file)


class Source:
    """One file with the comments of its declarations."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self.file = file
        self._comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}

    def names(self) -> Iterator[str]:
        """Of everything that has a heading."""
        for service in self.file.service:
            yield service.name
            yield from (method.name for method in service.method)
        yield from (message.name for message in self.file.message_type)
        yield from (enum.name for enum in self.file.enum_type)

    def comment(self, *place: int) -> str:
        lines = [line.strip() for line in self._comments.get(place, "").strip().splitlines()]
        return "\n".join(lines)

    def services(self) -> Iterator[str]:
        for at, service in enumerate(self.file.service):
            yield f"## {service.name}\n\n{self.comment(SERVICES, at)}\n"
            for number, method in enumerate(service.method):
                yield self._method(service, method, (SERVICES, at, METHODS, number))

    def _method(self, service: ServiceDescriptorProto, method: MethodDescriptorProto, place: Place) -> str:
        asks = ("stream of " if method.client_streaming else "") + bare(method.input_type)
        gives = ("stream of " if method.server_streaming else "") + bare(method.output_type)
        again = IDEMPOTENCY.get(method.options.idempotency_level, "")
        path = f"`/{self.file.package}.{service.name}/{method.name}`: {asks} → {gives}."
        return f"### {method.name}\n\n{path} {again}".rstrip() + f"\n\n{self.comment(*place)}\n"

    def messages(self) -> Iterator[str]:
        if self.file.message_type:
            yield f"## Messages of {Path(self.file.name).name}\n"
        for at, message in enumerate(self.file.message_type):
            yield self._message(message, (MESSAGES, at))

    def _message(self, message: DescriptorProto, place: Place) -> str:
        defaults = limit_defaults(message) if message.name == "Limits" else {}
        head = ["field", "number", "type", *(["by default"] if defaults else []), "meaning"]
        rows = [
            [f"`{field.name}`", str(field.number), type_of(field, message)]
            + ([defaults[field.name]] if defaults else [])
            + [self.comment(*place, FIELDS, number)]
            for number, field in enumerate(message.field)
        ]
        return self._heading(message, place) + table(head, rows)

    def enums(self) -> Iterator[str]:
        if self.file.enum_type:
            yield f"## Enums of {Path(self.file.name).name}\n"
        for at, enum in enumerate(self.file.enum_type):
            rows = [
                [f"`{value.name}`", str(value.number), self.comment(ENUMS, at, VALUES, number)]
                for number, value in enumerate(enum.value)
            ]
            yield self._heading(enum, (ENUMS, at)) + table(["name", "number", "meaning"], rows)

    def _heading(self, declared: DescriptorProto | EnumDescriptorProto, place: Place) -> str:
        said = self.comment(*place)
        return f"### {declared.name}\n\n" + (f"{said}\n\n" if said else "")

    KINDS = (services, messages, enums)


def contents(files: list[Source]) -> str:
    rows = [
        [service.name, ", ".join(method.name for method in service.method)]
        for file in files
        for service in file.file.service
    ]
    return table(["service", "methods"], rows)


def type_of(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    name = bare(field.type_name) or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return name


def limit_defaults(limits: DescriptorProto) -> dict[str, str]:
    """Of the gateway's settings: each limit has the name of one, but that times are milliseconds here."""
    settings = {setting.name: setting.default for setting in settings_of(GatewaySettings)}
    times = {f"{name[:-2]}_ms": value for name, value in settings.items() if name.endswith("_s") and value}
    values = settings | {name: int(value * 1000) for name, value in times.items()}
    return {field.name: f"{values[field.name]:,}" for field in limits.field}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def bare(type_name: str) -> str:
    return type_name.rpartition(".")[2]


def linked(block: str, names: set[str]) -> str:
    """Names of the contract become links to their headings, but not in headings and code."""

    def link(found: re.Match[str]) -> str:
        word = found[0]
        return f"[{word}](#{word.lower()})" if word in names else word

    return re.sub(r"^#.*|`[^`\n]*`|\b[A-Z]\w*\b", link, block, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
