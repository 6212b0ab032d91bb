"""Network parts, matching, set losses and EMA."""
