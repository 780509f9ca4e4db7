"""Starts the whole service, asks it what the sample pictures show, and stops it again.

What `make demo` runs. It writes a chart, `demo.png`, and leaves nothing running.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from examples.chart import Card, draw_chart
from examples.local_service import StartFailed, local_service
from siglip_client import Classification, Client, ModelDescription, SiglipError
from siglip_search.style import percent

ROOT = Path(__file__).parent.parent
RUN_FOLDER = ROOT / ".run"
PICTURE_KINDS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

# One true label for each sample picture, and others that are nearly true or not at all.
LABELS = (
    "a red circle",
    "a red star",
    "a yellow crescent",
    "three green hearts",
    "two green hearts",
    "four purple squares",
    "three purple squares",
    "a blue triangle and an orange ring",
    "a blue triangle and a green star",
    "a yellow star",
    "a pink cross",
    "a green circle",
    "a bicycle",
)
SHOWN = 3
BAR_CELLS = 24


def main() -> int:
    arguments = parse_arguments()
    try:
        pictures = sorted(p for p in arguments.samples.iterdir() if p.suffix.lower() in PICTURE_KINDS)
        if not pictures:
            print(f"no pictures in {arguments.samples}", file=sys.stderr)
            return 2
        run(arguments.model, pictures, arguments.chart)
    except (StartFailed, SiglipError, OSError) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    model = os.environ.get("SIGLIP_MODEL", "checkpoints/shapes")
    parser.add_argument("--model", default=model, help="checkpoint folder or hub id [%(default)s]")
    parser.add_argument("--samples", type=Path, default=ROOT / "samples", help="folder of pictures")
    parser.add_argument("--chart", type=Path, default=ROOT / "demo.png", help="chart to write")
    return parser.parse_args()


def run(model: str, pictures: Sequence[Path], chart: Path) -> None:
    start = time.monotonic()
    print("Starting the queue, the gateway, a text worker and a vision worker ...", flush=True)
    with local_service(model, RUN_FOLDER) as address, Client(address) as client:
        print(f"Ready at {address} after {time.monotonic() - start:.1f} s.\n")
        described = client.get_model()
        found = client.classify(pictures, LABELS)
        print_table(pictures, found)
        print(f"\n{summary(found)}")
        draw(described, pictures, found).save(chart)
    print(f"Chart: {relative(chart)}. Everything is stopped again; `make serve` keeps it running.")


def print_table(pictures: Sequence[Path], found: Classification) -> None:
    width = max(len(path.name) for path in pictures)
    for path, image in zip(pictures, found, strict=True):
        for rank, score in enumerate(image.labels[:SHOWN]):
            name = path.name if rank == 0 else ""
            bar = "█" * round(score.probability * BAR_CELLS)
            print(f"{name:{width}}  {percent(score.probability):>7}  {bar:{BAR_CELLS}}  {score.label}")


def summary(found: Classification) -> str:
    timing = found.timing
    stages = {
        "decoding": timing.decode_us,
        "queueing": timing.queue_us,
        "computing": timing.compute_us,
        "scoring": timing.score_us,
    }
    spent = ", ".join(f"{name} {us / 1000:.1f} ms" for name, us in stages.items())
    return f"{len(found)} pictures, {len(LABELS)} labels, {timing.total_us / 1000:.1f} ms: {spent}."


def draw(described: ModelDescription, pictures: Sequence[Path], found: Classification) -> Image.Image:
    cards = [
        Card(path.name, Image.open(path), [(s.label, s.probability) for s in image.labels[:SHOWN]])
        for path, image in zip(pictures, found, strict=True)
    ]
    size = f"{described.image_size} x {described.image_size} pixels"
    title = f"{described.name}: what is in these pictures?"
    return draw_chart(title, cards, f"{summary(found)} The model sees {size}.")


def relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
