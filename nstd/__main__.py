"""``python -m nstd``: the same as the command ``nstd``."""

from nstd.cli import main

if __name__ == "__main__":
    main()
