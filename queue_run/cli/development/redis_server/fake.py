"""A Redis in Python for machines without a server: `python -m ... --port N`.

Good enough to try things: each transaction takes about ten milliseconds, and it is one process.
"""

import argparse

from fakeredis import TcpFakeServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    TcpFakeServer(("127.0.0.1", parser.parse_args().port)).serve_forever()


if __name__ == "__main__":
    main()
