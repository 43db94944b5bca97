"""What Python's interpreter is told of the kind of process that a trainer is."""

from __future__ import annotations

import gc
import sys

_SWITCH_S = 0.0005
"""A thread that wants the interpreter waits so long at most. By default ten times that: longer than a step, which is back from
TensorFlow and waits for the thread that makes the next step's columns."""


def prepare() -> None:
    """Let threads take turns sooner, and the cycle collector look rarely and never again at what is here now; call once a
    process is set up.

    TensorFlow leaves a million objects that live as long as the process, and samples are lists of lists that hold no cycles: with
    the default thresholds four fifths of the time of decoding went into looking at them.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
