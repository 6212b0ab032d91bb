"""What all other parts build on: parameters, plug-ins, files, the command line."""
