"""What one image of a stream costs gateway, decoding and queue, in the service with a tiny model."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service import load
from benchmarks.service.inputs import draw_all, picture
from benchmarks.service.ours import serving
from tests.support.checkpoints import write_tiny_checkpoint

IMAGE_SIZE = 224
PIXEL_BYTES = 3 * IMAGE_SIZE * IMAGE_SIZE


@dataclass(frozen=True)
class Costs:
    """CPU time of one image, in microseconds, and its bytes as a JPEG."""

    gateway_us: float
    decoding_us: float
    queue_us: float
    jpeg_bytes: int
    rate: float
    """Images a second that this machine did meanwhile."""

    @property
    def front_us(self) -> float:
        """A gateway and its decoding processes."""
        return self.gateway_us + self.decoding_us


def measure(seconds: float) -> Costs:
    draw_all()
    with tempfile.TemporaryDirectory(prefix="siglip-capacity-") as folder:
        vision = {"image_size": IMAGE_SIZE, "patch_size": 32}
        return asyncio.run(_measure(write_tiny_checkpoint(Path(folder) / "tiny-224", vision=vision), seconds))


async def _measure(model: Path, seconds: float) -> Costs:
    async with serving(model, "--cache-bytes", "0") as ours:
        found = await load.measure(ours.stream("image", 64), seconds)
    spent = found.cpu_us
    return Costs(spent["gateway"], spent["decoding"], spent["queue"], len(picture(0)), found.rate)
