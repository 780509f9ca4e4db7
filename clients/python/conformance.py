"""Makes the calls of a plan with siglip_client and prints what came of each: tests/conformance/README.md."""

from __future__ import annotations

import base64
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import reading
from google.protobuf import json_format
from siglip.v1 import embedding_pb2, model_pb2, zero_shot_pb2
from streaming import Streaming

from siglip_client import Client, SiglipError
from siglip_client.channel import MAX_RETRIES

_REQUESTS = {
    "EmbedTexts": embedding_pb2.EmbedTextsRequest,
    "EmbedImages": embedding_pb2.EmbedImagesRequest,
    "Classify": zero_shot_pb2.ClassifyRequest,
    "Score": zero_shot_pb2.ScoreRequest,
    "CreateLabelSet": zero_shot_pb2.CreateLabelSetRequest,
    "GetModel": model_pb2.GetModelRequest,
    "Tokenize": model_pb2.TokenizeRequest,
}


class Program:
    """One connection for each endpoint, number of retries and model."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan, self._inputs = plan, Path(plan["inputs"])
        self._label_sets: dict[str, str] = {}
        self._client = cache(self._connected)

    def run(self) -> None:
        for case in self._plan["cases"]:
            say({"case": case["name"], **self._report(case)})

    def _report(self, case: dict[str, Any]) -> dict[str, Any]:
        model = case.get("stream", {}).get("model", "")
        client = self._client(case["endpoint"], case.get("retries", MAX_RETRIES), model)
        try:
            if case["call"] == "EmbedStream":
                return Streaming(client, case, self._inputs, say).report()
            timeout_s = case["timeout_ms"] / 1000
            reply = client.call(case["call"], self._request(case), timeout_s=timeout_s)
            return {"code": "OK", **self._read(case, reply)}
        except SiglipError as error:
            return reading.failure(error)

    def _read(self, case: dict[str, Any], reply: Any) -> dict[str, Any]:
        if case["call"] == "CreateLabelSet":
            self._label_sets[case["name"]] = reply.label_set
        return reading.READERS[case["call"]](reply)

    def _request(self, case: dict[str, Any]) -> Any:
        kind = _REQUESTS[case["call"]]
        if "request_base64" in case:
            return kind.FromString(base64.b64decode(case["request_base64"]))
        fields = dict(case["request"])
        images = [(self._inputs / name).read_bytes() for name in fields.pop("images", [])]
        request = json_format.ParseDict(fields, kind())
        if images:
            request.images.extend(images)
        if "label_set_from" in case:
            request.label_set = self._label_sets[case["label_set_from"]]
        return request

    def _connected(self, endpoint: str, retries: int, model: str) -> Client:
        how = self._plan["endpoints"][endpoint]
        return Client(
            how["address"],
            model=model,
            retries=retries,
            tls=how.get("tls", False),
            ca_file=how.get("ca_file"),
            token=how.get("token"),
        )


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    Program(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).run()
