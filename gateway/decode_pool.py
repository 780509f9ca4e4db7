"""Decodes images in threads, off the event loop, with a bounded number waiting for a thread."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from gateway.errors import ItemFailure
from gateway.helpers import DecoderFailed
from siglip_model.image_processing import ImageError

log = logging.getLogger(__name__)

# Images handed to the threads beside those in work: enough that no thread idles, few enough that a
# cancelled call leaves nothing behind.
_WAITING_PER_THREAD = 1


class DecodePool:
    """`decode` turns an encoded image into a row for the vision tower, or raises ImageError or another."""

    def __init__(
        self, decode: Callable[[bytes], bytes], threads: int, on_close: Callable[[], None] = lambda: None
    ) -> None:
        self._decode = decode
        self._on_close = on_close
        self._thread_count = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._slots = asyncio.Semaphore(threads * (1 + _WAITING_PER_THREAD))

    async def decode_all(self, images: Sequence[bytes]) -> list[bytes | ItemFailure]:
        """The rows in the order of `images`. A cancelled call drops what no thread has begun."""
        rows: list[bytes | ItemFailure] = [b""] * len(images)
        # Shared by the runners: each takes the next image. With as many runners as threads, a call of
        # many images does not keep calls of few waiting behind all of them.
        positions = iter(range(len(images)))

        async def run() -> None:
            loop = asyncio.get_running_loop()
            for position in positions:
                async with self._slots:
                    rows[position] = await loop.run_in_executor(self._threads, self._try, images[position])

        if len(images) == 1:
            await run()
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(images), self._thread_count)):
                    group.create_task(run())
        return rows

    def _try(self, image: bytes) -> bytes | ItemFailure:
        try:
            return self._decode(image)
        except ImageError as error:
            return ItemFailure(grpc.StatusCode.INVALID_ARGUMENT, error.reason, error.message)
        except DecoderFailed as error:
            return ItemFailure(grpc.StatusCode.INTERNAL, error.reason, str(error))
        except Exception:
            log.exception("the decoder failed on an image of %d bytes", len(image))
            return ItemFailure(
                grpc.StatusCode.INTERNAL, "IMAGE_DECODER_FAILED", "the decoder failed on this image"
            )

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._on_close()
