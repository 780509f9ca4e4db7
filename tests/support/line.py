"""A line to a server on a unix socket: encrypted, or slow."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def line_to(socket_path: str, context: ssl.SSLContext | None = None, delay_s: float = 0.0) -> Iterator[int]:
    """The port on the loopback; whatever goes either way arrives `delay_s` later."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), [0]
    stopping = asyncio.Event()

    async def serve() -> None:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            backend_reader, backend_writer = await asyncio.open_unix_connection(socket_path)
            await asyncio.gather(
                _pump(reader, backend_writer, delay_s), _pump(backend_reader, writer, delay_s)
            )

        server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
        port[0] = server.sockets[0].getsockname()[1]
        ready.set()
        await stopping.wait()
        server.close()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_until_complete(asyncio.sleep(0.1 + delay_s))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
        while data := await reader.read(65536):
            if delay_s:
                loop.call_later(delay_s, writer.write, data)
                continue
            writer.write(data)
            await writer.drain()
        await asyncio.sleep(delay_s)
    with contextlib.suppress(OSError, ssl.SSLError, RuntimeError):
        writer.close()
