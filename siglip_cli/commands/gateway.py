"""`siglip gateway`."""

from pathlib import Path
from typing import Any

import click

from siglip_cli import exit_codes
from siglip_cli.lifeline import end_with_stdin
from siglip_cli.options import Command, load_settings, settings_options
from siglip_settings import GatewaySettings, SettingsError


@click.command(cls=Command, epilog=exit_codes.EPILOG)
@settings_options(GatewaySettings)
@click.option("--end-with-stdin", "ends_with_stdin", is_flag=True, hidden=True)
@click.option("--address-file", type=click.Path(path_type=Path), hidden=True)
@click.option("--probe-socket", hidden=True)
def gateway(ends_with_stdin: bool, address_file: Path | None, probe_socket: str | None, **given: Any) -> int:
    """Start one gateway: the gRPC front of the service.

    It needs a Redis or Valkey that it shares with the workers ('siglip serve' brings its own).

    \b
    Examples:
      siglip gateway --model checkpoints/shapes --redis-url redis://127.0.0.1:6379
      SIGLIP_REDIS_URL=rediss://user:password@queue:6380 siglip gateway --model ./my-model
    """
    if ends_with_stdin:
        end_with_stdin()
    settings = load_settings(GatewaySettings, given)
    if not settings.redis_url:
        raise SettingsError(
            "a gateway alone needs --redis-url (or SIGLIP_REDIS_URL); 'siglip serve' brings its own queue"
        )
    import asyncio

    from gateway.server import serve
    from siglip_cli.logs import start_logging
    from siglip_cli.probe import bound_address, write_address

    def on_listening(port: int) -> None:
        if address_file:
            write_address(address_file, bound_address(settings.listen, port))

    start_logging(settings.log_format, settings.log_level, "gateway")
    asyncio.run(serve(settings, on_listening, probe_socket))
    return exit_codes.OK
