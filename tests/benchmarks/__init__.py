"""Speed: medians of repeated measurements in one run; nothing here asserts."""
