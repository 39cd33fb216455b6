"""What the results say: compute (values in, values out) and show; neither torch nor ray."""
