"""From results of single finetunings to tables: the user's own grid, and the tables of the paper."""
