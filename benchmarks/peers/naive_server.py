"""What one writes first: transformers behind FastAPI, a model call for each request.

Runs in an environment of its own (`make bench-peers`): python naive_server.py CHECKPOINT PORT
"""

import io
import sys
from collections.abc import Mapping

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from transformers import AutoModel, AutoProcessor

app = FastAPI()
model = AutoModel.from_pretrained(sys.argv[1]).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1])


@app.get("/ready")
def ready() -> bool:
    return True


@app.post("/image")
async def image(request: Request) -> list[float]:
    return await run_in_threadpool(embed_image, await request.body())


@app.post("/text")
async def text(request: Request) -> list[float]:
    return await run_in_threadpool(embed_text, (await request.body()).decode())


def embed_image(body: bytes) -> list[float]:
    inputs = processor(images=Image.open(io.BytesIO(body)), return_tensors="pt")
    return unit(model.vision_model, inputs)


def embed_text(words: str) -> list[float]:
    inputs = processor(text=[words], padding="max_length", truncation=True, return_tensors="pt")
    return unit(model.text_model, inputs)


@torch.inference_mode()
def unit(tower: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[float]:
    return torch.nn.functional.normalize(tower(**inputs).pooler_output)[0].tolist()


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
