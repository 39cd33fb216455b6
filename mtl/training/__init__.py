"""One training: `fit` trains or resumes a run; `load_network` gives its network."""

from mtl.training.evaluation import load_network
from mtl.training.fit import fit

__all__ = ["fit", "load_network"]
