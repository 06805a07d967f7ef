"""The operator console on trial. The last line is JSON.

``fuzz``: malformed messages, wrong tokens, foreign paths, readers that never read.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.console import fuzz


def main() -> None:
    """Try it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    attack = ways.add_parser("fuzz", help="malformed messages, wrong tokens, foreign paths, readers that never read")
    attack.add_argument("--messages", type=int, default=100_000, help="malformed messages (default 100000)")
    attack.add_argument("--seconds", type=float, default=60.0, help="that readers do not read (default 60)")
    attack.add_argument("--seed", type=int, default=0, help="of the messages (default 0)")
    options = parser.parse_args()
    print(json.dumps(fuzz.run(options.messages, options.seconds, options.seed)))


if __name__ == "__main__":
    main()
