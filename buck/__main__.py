"""Where the command `buck` starts; what it can do is in `commands.py`."""

from service.start import start


def main() -> None:
    """Run the command line."""
    start("buck.commands")


if __name__ == "__main__":
    main()
