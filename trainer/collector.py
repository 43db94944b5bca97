"""Python's cycle collector, told what kind of process this is."""

from __future__ import annotations

import gc


def calm() -> None:
    """Let the cycle collector look rarely, and never again at what is here now; call once a process is set up.

    TensorFlow leaves a million objects that live as long as the process, and samples are lists of lists that hold no cycles: with
    the default thresholds four fifths of the time of decoding went into looking at them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
