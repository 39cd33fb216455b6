"""A store for the tools that people use already: `python -m sweeps.export STORE --to mlflow`."""
