"""What an experiment is: params.yaml, checked, and resolved into rows, items and what they cost."""
