"""`python -m pyproxy`, and the `pyproxy` command."""

from pyproxy.cli import main

if __name__ == "__main__":
    main()
