"""Plug-ins: the contrastive term between object proposals, one file per loss.

``loss(z, z_hat, boxes, *, anchors, ...) -> scalar``, where

- ``z`` (B, N, D): the teacher's embeddings, L2-normalised;
- ``z_hat`` (B, N, D): the student's, L2-normalised, *aligned*: ``z_hat[i, j]`` is the prediction that the proposal
  matching gave to the teacher's proposal j, i.e. eq. 10's index sigma is already applied;
- ``boxes`` (B, N, 4): the teacher's boxes, cxcywh in 0..1;
- ``anchors``: slice of the images whose proposals are anchors here (each of several processes has its own share); the
  mean is over them, the softmax over all B images.

B is the global batch. The scalar is float32 at least; its gradient reaches ``z_hat`` alone.
"""
