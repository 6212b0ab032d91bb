"""Speed: one script a hot path, each against its peer in the same run."""
