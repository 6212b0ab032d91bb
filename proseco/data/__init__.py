"""Images and boxes on their way from disk to batch."""
