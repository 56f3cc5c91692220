"""Where the command `tailer` starts; what it can do is in `commands.py`."""

from service.start import start


def main() -> None:
    """Run the command line."""
    start("tailer.commands")


if __name__ == "__main__":
    main()
