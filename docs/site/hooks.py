"""What mkdocs does beside its configuration: README as the first page, reference, links to code."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = (
    "mtl.weighting", "mtl.weighting.base", "mtl.weighting.lightning", "mtl.spec",
    "mtl.training.fit", "mtl.store.store", "mtl.training.evaluation", "mtl.tasks.base",
    "mtl.networks.base", "mtl.data.sample",
    "sweeps.own", "sweeps.plan.lattice", "analysis.reports",
)  # fmt: skip
"""Modules whose interfaces stay."""
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
"""A link to a file of the repository that is no page."""


def on_files(files: Files, config: Any) -> Files:
    """Add the first page, made of README, and the reference, made of docstrings."""
    readme = (ROOT / "README.md").read_text("utf-8").replace("](docs/", "](")
    readme = re.sub(r"\[([^\]]+)\]\((?!\w+://)([A-Z][\w.]*)\)", r"`\2`", readme)
    files.append(File.generated(config, "index.md", content=readme))
    parts = ["# Reference\n", *(f"\n::: {module}\n" for module in PUBLIC)]
    files.append(File.generated(config, "reference.md", content="".join(parts)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files of the repository in place of links, which lead nowhere from the site."""
    return OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2]}`)", markdown)
