"""50 raters × 200 questions, while server and database die: PYTHONPATH=tests python docs/results/nothing_lost.py

`… nothing_lost.py 20 100 6` is 20 raters × 100 questions, with six kills of the server and six of its database. Prints
a JSON object, and beside it what came of each database as soon as it is known; those in people/nothing_lost.json and
people/stops.json are from the machines that they name.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import postgres
from storm import check, storm

RATERS, EACH, KILLS = 50, 200, 8


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or [RATERS, EACH, KILLS]
    results: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": [round(n, 1) for n in os.getloadavg()],
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as folder:
        results["sqlite"] = once(Path(folder), f"sqlite:///{folder}/heedful.db", *sizes)
    programs = postgres.programs()
    if programs is None:
        print("PostgreSQL is not installed", file=sys.stderr)
    else:
        with postgres.running(programs) as server, tempfile.TemporaryDirectory() as folder:
            results["postgresql"] = once(Path(folder), server.url, *sizes, server)
    print(json.dumps(results, indent=1))


def once(
    folder: Path,
    url: str,
    raters: int,
    each: int,
    kills: int,
    server: postgres.Server | None = None,
) -> dict:
    found = storm(
        folder / "workspace",
        url,
        raters=raters,
        each=each,
        kills=kills,
        database=server,
        stops=kills if server else 0,
    )
    check(found, raters=raters, each=each)
    result = {
        "raters": raters,
        "acknowledged": len(found.acknowledged),
        "stored": len(found.judgments),
        "sent_again": found.replays,
        "requests_without_an_answer": found.lost_answers,
        "kills": found.kills,
        "stops_of_the_database": found.stops,
        "requests_in_the_history": len(found.history),
        "histories_that_no_order_explains": len(found.unexplained),
        "seconds": round(found.seconds, 1),
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
