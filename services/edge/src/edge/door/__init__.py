"""Who gets in, and as whom."""
