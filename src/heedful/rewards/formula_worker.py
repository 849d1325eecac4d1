"""The process that reads formulas with math-verify: a line of JSON in, a line out. See `rewards.formulas`.

It is a script and imports nothing of ours, so that it starts without PyTorch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import signal
import sys

SECONDS = 2.0  # of processor time for one question
MEMORY = 4 << 30  # bytes


def main() -> None:
    """Answers until its input ends."""
    from math_verify import LatexExtractionConfig, parse, verify

    # math-verify's own time-out is a Python signal handler: it works in the main thread only, and not at all
    # while one big power is computed in C. The timer's default action ends the process, whatever it does.
    logging.disable(logging.WARNING)
    with contextlib.suppress(ValueError, OSError):  # some systems have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for line in sys.stdin:
        question = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            # Formulas only, in a box or between dollars: of the sentence "it is 2√3" the expression reader takes 2.
            gold, *given = (
                parse(text, [LatexExtractionConfig()], parsing_timeout=0)
                for text in question["texts"]
            )
            if given:
                equal = bool(gold and given[0])
                equal = equal and verify(gold, given[0], timeout_seconds=0)
                if not equal and question["tolerance"]:
                    gap = abs(complex(gold[0]) - complex(given[0][0]))
                    equal = gap <= question["tolerance"]
            else:
                equal = bool(gold) and not isinstance(gold[0], str)
        except (Exception, RecursionError, MemoryError):  # what it cannot read is not equal
            equal = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(bool(equal)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
