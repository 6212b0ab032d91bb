"""The one training loop, and what it asks of a method."""
