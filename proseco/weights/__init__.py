"""Checkpoints: ours (safetensors) and the public ones.

Nothing is unpickled beyond tensors, plain values and argparse.Namespace.
"""
