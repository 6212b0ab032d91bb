"""What leaves a pretraining that trains a projector beside the detector."""

from torch import Tensor, nn


def flat_state(branch: nn.Module) -> dict[str, Tensor]:
    """State dict of ``branch.detector`` under the detector's own names; that of ``branch.projector`` under
    ``projector.``.
    """
    projector = {f"projector.{name}": value for name, value in branch.projector.state_dict().items()}
    return branch.detector.state_dict() | projector
