"""The parts of a detector."""
