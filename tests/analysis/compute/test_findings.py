"""Which pairs of methods are set side by side, and in which order."""

from analysis.compute.findings import every_pair


def test_the_papers_pair_leads():
    assert every_pair(["fixed", "stch", "lsb"]) == [
        ("lsb", "fixed"), ("fixed", "stch"), ("stch", "lsb"),
    ]  # fmt: skip
    assert every_pair(["a", "b"]) == [("a", "b")]
    assert every_pair(["a"]) == []
