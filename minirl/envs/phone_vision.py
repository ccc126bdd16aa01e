"""Stands for a vision-language model in the chapters on graphical interfaces: one vector f(s, a) for a screen and an action.

It is trained without any label, to reconstruct what it sees; what a chapter does with it afterwards is that chapter's.
Letters: B batch, N actions of a screen, D width of f(s, a).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minirl.envs.phone import CELLS, COLS, ROWS, cell_centre
from minirl.envs.phone_agents import initialise, to_input


def kind(action: Tensor) -> Tensor:
    """What sort of action it is: 0 for every tap, 1-7 for the others."""
    return (action - CELLS + 1).clamp_min(0)


class ScreenActionNet(nn.Module):
    """Stands for the vision-language model: f(s, a) of width D, and two read-outs that train it.

    A map of the screen is computed once; for a tap it is read at the tapped cell. Reconstruction gives the whole screen at
    half its resolution and the 8 x 8 pixels around the tap; the effect is one logit.
    """

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator before we draw from ours
            self.conv1, self.conv2 = nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.Conv2d(16, 32, 3, stride=2, padding=1)
            self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
            self.whole = nn.Linear(32 * 15 * 10, 64)
            self.kinds = nn.Embedding(8, 32)  # in place of what lies under the tap, when nothing is tapped
            self.mix = nn.Linear(64 + 32, width)
            self.effect = nn.Linear(width, 1)
            self.screen, self.patch = nn.Linear(width, 30 * 20 * 3), nn.Linear(width, 8 * 8 * 3)
            initialise(self, generator)

    def look(self, pixels: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 60, 40, 3) -> the screen as a whole (B, 64) and its cells (B, 54, 32)."""
        x = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(to_input(pixels)))))))
        return F.relu(self.whole(x.flatten(1))), F.adaptive_avg_pool2d(x, (ROWS, COLS)).flatten(2).transpose(1, 2)

    def forward(self, screen: Tensor, cells: Tensor, action: Tensor) -> Tensor:
        """f(s, a) (B, N, D) of the actions (B, N) on screens that `look` has seen."""
        place = action.clamp_max(CELLS - 1)[..., None].expand(-1, -1, cells.shape[2])
        under = torch.where((action < CELLS)[..., None], cells.gather(1, place), self.kinds(kind(action)))
        return F.relu(self.mix(torch.cat([screen[:, None].expand(-1, action.shape[1], -1), under], dim=2)))


def patches(pixels: Tensor, action: Tensor) -> Tensor:
    """(B, 192) the 8 x 8 pixels around each tap, in [-1/2, 1/2]; pixels (B, 3, 60, 40), action (B,) taps."""
    centre = torch.tensor([cell_centre(c) for c in range(CELLS)])[action] // 4  # (x, y) in small pixels
    x = (centre[:, :1] - 4).clamp(0, 32)[:, None] + torch.arange(8)
    y = (centre[:, 1:] - 4).clamp(0, 52)[:, None].transpose(1, 2) + torch.arange(8)[:, None]
    return pixels[torch.arange(len(action))[:, None, None], :, y, x].flatten(1)


def reconstruction_loss(net: ScreenActionNet, pixels: np.ndarray, action: Tensor) -> Tensor:
    """Scalar: squared errors of the screen at half resolution and of what lies around the taps. Needs no label."""
    f = net(*net.look(pixels), action[:, None])[:, 0]
    image, taps = to_input(pixels), action < CELLS
    loss = F.mse_loss(net.screen(f), F.avg_pool2d(image, 2).flatten(1))
    return loss + F.mse_loss(net.patch(f[taps]), patches(image[taps], action[taps])) if taps.any() else loss
