"""heedful teaches language models to heed people: the whole loop of RLHF in one program."""

import os

__version__ = "0.1.0"

# How often a thread of PyTorch's (libgomp) looks whether the others have come, before it lets go of its processor:
# half a millisecond. Left alone it is 16, for which one of them may be waiting on a machine that does anything else.
# Read once, when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
