"""`python -m everloop` is the `everloop` command."""

from everloop.cli import main

if __name__ == "__main__":
    main()
