"""Plan minus done -> Ray Tune -> store; the only package that imports ray."""
