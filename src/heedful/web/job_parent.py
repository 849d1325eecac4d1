"""`python -m heedful.web.job_parent FOLDER`: runs a job and writes down how it ended; see `web.jobs`.

A process of its own, so that an exit code is known although the server has been restarted meanwhile. It holds the job's
lock, and so does the command that it runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(folder: Path) -> int:
    about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    words = (*about["command"].split(), str(folder / "config.yaml"), "--quiet")
    lock = int(os.environ.pop("HEEDFUL_JOB_LOCK"))
    os.set_inheritable(lock, True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # for the command, which saves what it has

    def listens() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    child = subprocess.Popen(
        (sys.executable, "-m", "heedful", *words), pass_fds=(lock,), preexec_fn=listens
    )
    code = child.wait()
    aside = folder / "ended.json.part"
    aside.write_text(json.dumps({"code": code, "at": time.time()}), encoding="utf-8")
    aside.replace(folder / "ended.json")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
