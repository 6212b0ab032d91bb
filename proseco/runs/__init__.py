"""What the stages that train do, from an entry of the plan to their files; and detectors read back from files."""
