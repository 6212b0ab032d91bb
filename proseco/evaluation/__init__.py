"""From a detector to its AP."""
