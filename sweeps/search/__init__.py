"""The search that `pareto_search.py` makes; the only package that imports optuna."""
