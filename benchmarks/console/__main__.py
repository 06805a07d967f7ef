"""The operator console on trial. The last line is JSON.

``fuzz``: malformed messages, wrong tokens, foreign paths, readers that never read. ``stop``: from a click on the page to
standstill. ``frozen``: ``stvla stop`` while the page's process is frozen. ``load``: the stack without and with people who
watch. ``page``: what they cost a page alone.
"""

from __future__ import annotations

import argparse
import json
import os

from benchmarks.console import fuzz, page


def main() -> None:
    """Try it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    attack = ways.add_parser("fuzz", help="malformed messages, wrong tokens, foreign paths, readers that never read")
    attack.add_argument("--messages", type=int, default=100_000, help="malformed messages (default 100000)")
    attack.add_argument("--seconds", type=float, default=60.0, help="that readers do not read (default 60)")
    attack.add_argument("--seed", type=int, default=0, help="of the messages (default 0)")
    click = ways.add_parser("stop", help="from a click on the page to standstill")
    click.add_argument("--clicks", type=int, default=100, help="at random moments of motion (default 100)")
    click.add_argument("--clients", type=int, default=1, help="who look at the page (default 1)")
    click.add_argument("--throttled", action="store_true", help="the person's link runs at 1 Hz and takes 300 ms")
    click.add_argument("--minutes", type=float, default=60.0, help="no click begins after these (default 60)")
    freeze = ways.add_parser("frozen", help="`stvla stop` while the page's process is frozen")
    freeze.add_argument("--stops", type=int, default=10, help="how often (default 10)")
    watch = ways.add_parser("load", help="the stack without and with people who watch")
    watch.add_argument("--clients", type=int, default=8, help="who look at the page (default 8)")
    watch.add_argument("--minutes", type=float, default=10.0, help="of both (default 10)")
    alone = ways.add_parser("page", help="CPU time of a page alone, without and with people who watch")
    alone.add_argument("--clients", type=int, default=8, help="who look at the page (default 8)")
    alone.add_argument("--seconds", type=float, default=30.0, help="of both (default 30)")
    for way in (click, freeze, watch):
        way.add_argument("--domain", type=int, default=int(os.environ.get("ROS_DOMAIN_ID", "42")), help="ROS domain")
    options = parser.parse_args()
    if options.way == "fuzz":
        found = fuzz.run(options.messages, options.seconds, options.seed)
    elif options.way == "page":
        found = page.run(options.clients, options.seconds)
    else:
        os.environ["ROS_DOMAIN_ID"] = str(options.domain)
        from benchmarks.console import stack

        if options.way == "stop":
            found = stack.stop(options.clicks, options.clients, options.throttled, options.minutes)
        elif options.way == "frozen":
            found = stack.frozen(options.stops)
        else:
            found = stack.load(options.clients, options.minutes)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
