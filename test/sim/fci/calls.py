"""In a child process: calls come in as JSON lines, results go back so."""

from __future__ import annotations

import json
import sys
from typing import Any


def serve(functions: dict[str, Any]) -> None:
    """Answer calls of these functions until the parent ends."""
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = (True, functions[name](**arguments))
        except Exception as error:  # whatever it is, the parent gets it  # noqa: BLE001
            answer = (False, f"{type(error).__name__}: {error}")
        print(json.dumps(answer), file=out, flush=True)
