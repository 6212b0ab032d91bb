"""What every other part stands on: parameters, plug-ins, files, the command line."""
