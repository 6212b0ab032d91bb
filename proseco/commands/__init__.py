"""What ``python -m proseco`` can do beside the pipeline: each file a command, its functions' signatures the options."""
