"""Where the command starts."""

import sys


def main() -> None:
    # Imported here: it takes a while, and Ctrl-C in that while is no error either.
    try:
        from siglip_cli import main as command

        command.main()
    except KeyboardInterrupt:
        print("siglip: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
