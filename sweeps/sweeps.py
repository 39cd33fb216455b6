"""Stands in for the package `sweeps` where one of its files runs as a script.

`python sweeps/priority_grid.py` looks for `sweeps` in the script's own folder first, and so comes
here. The checkout that the script lies in takes the place of whatever else goes by that name: of
another installation of this project, or of somebody else's package (Weights & Biases has one).
"""

import importlib
import sys
from pathlib import Path

if __name__ == "sweeps":  # else somebody imports all modules of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    del sys.modules[__name__]
    importlib.import_module(__name__)  # Python takes what it leaves in sys.modules for this module
