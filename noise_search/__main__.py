"""The command's entry, which is also `python -m noise_search`: Ctrl-C while it is being imported ends in one line."""

import sys


def main() -> None:
    """Run the command."""
    try:
        from noise_search.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("noise-search: interrupted before anything was done", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
