"""Draws clip.svg, the picture of section 2, from the loss itself.

python reading/draw_clip.py
"""

import sys
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from grpo import policy_loss

LOWEST = 0.3
HIGHEST = 1.8


def draw(panel, advantage, flat, ticks):
    """One sign of the advantage: the surrogate, and where its gradient is 0."""
    ratios = torch.linspace(LOWEST, HIGHEST, 151)
    one = torch.ones(1)
    losses = [policy_loss(r.log()[None], 0 * one, advantage * one, one)[0] for r in ratios]
    panel.axvspan(*flat, color="#eeeeee", zorder=0)
    panel.text(
        sum(flat) / 2, 0.04, "gradient\nis 0", ha="center", transform=panel.get_xaxis_transform()
    )
    panel.plot(ratios, advantage * ratios, color="#666666", linestyle=":")
    panel.plot(ratios, [-loss for loss in losses], color="#1b6e3c", linewidth=3)
    panel.set_title(f"A = {advantage:+.0f}")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_xlim(LOWEST, HIGHEST)
    panel.set_xlabel("ratio r")


def main():
    matplotlib.rcParams.update({"svg.hashsalt": "clip", "font.size": 11})
    figure, panels = plt.subplots(1, 2, figsize=(5.6, 2.8), layout="constrained")
    draw(panels[0], 1.0, (1.28, HIGHEST), (0.5, 1, 1.28, 1.6))
    draw(panels[1], -1.0, (LOWEST, 0.8), (0.4, 0.8, 1, 1.5))
    panels[0].set_ylim(0, HIGHEST)
    panels[1].set_ylim(-HIGHEST, 0)
    panels[0].set_ylabel("surrogate")
    figure.savefig(FOLDER / "clip.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
