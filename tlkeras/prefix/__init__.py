"""The frozen prefix: what no step of a phase can change is computed once per sample, kept on disk, trained from.

`cuts` finds where (cut.py), `prepare` fills the store (store.py) by the fastest forward pass of this machine
(streams.py) or says why that does not pay, and `Features` feeds the phase.
"""

from tlkeras.prefix.cut import Cut, cuts, whole
from tlkeras.prefix.features import Choice, Features, Job, missing, outlook, passes, prepare, shared
from tlkeras.prefix.frozen import Vectors, head_job, vectors
from tlkeras.prefix.remat import rematerialised

__all__ = [
    "Choice",
    "Cut",
    "Features",
    "Job",
    "Vectors",
    "cuts",
    "head_job",
    "missing",
    "outlook",
    "passes",
    "prepare",
    "rematerialised",
    "shared",
    "vectors",
    "whole",
]
