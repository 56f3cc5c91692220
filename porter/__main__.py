"""Where the command `porter` starts; what it can do is in `commands.py`."""

from service.start import start


def main() -> None:
    """Run the command line."""
    start("porter.commands")


if __name__ == "__main__":
    main()
