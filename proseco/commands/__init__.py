"""What ``python -m proseco`` can do beside the pipeline: a file a command, functions whose signature is the options."""
