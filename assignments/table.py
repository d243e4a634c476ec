"""The assignments: one row each. What a student does stands in NN_name.md beside this file."""

from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Assignment(NamedTuple):
    """One assignment; its files are NN_name.md, test_NN_name.py and wrong_NN_name.py."""

    number: int
    name: str
    title: str
    minutes: int  # for a student who knows PyTorch
    lines: int  # about as many has the project's own answer
    file: str  # where the functions stand; where the answer is no code, a file of answers, JSON
    functions: tuple  # that are blanked, and planted; empty where the answer is no code
    paper: str  # what of the paper it is
    points: dict  # of each test; ten together
    hints: tuple  # three: a question, the place, nearly the line
    seconds: int = 20  # that all tests may take, for one set of numbers
    needs: str = ""  # what one should have done before
    extra: tuple = ()  # further files of assignments/ that the hand-out holds

    @property
    def stem(self):
        return f"{self.number:02d}_{self.name}"

    def path(self, kind):
        """kind: text, test or wrong."""
        names = {"text": f"{self.stem}.md", "test": f"test_{self.stem}.py"}
        return HERE / names.get(kind, f"wrong_{self.stem}.py")


TABLE = [
    Assignment(
        6,
        "group_advantages",
        "Group advantages",
        minutes=20,
        lines=8,
        file="grpo.py",
        functions=("group_advantages", "set_advantages"),
        paper="Section 3, A_i; GRPO, equation 3",
        points={
            "test_an_ordinary_group": 3,
            "test_without_the_std": 1,
            "test_a_flat_group": 2,
            "test_the_rewards_stay_as_they_are": 1,
            "test_each_group_has_its_own_baseline": 2,
            "test_truncated_responses_count": 1,
        },
        hints=(
            "With what is a response compared: with all responses of the batch, or with those to "
            "the same question?",
            "Look at three things in turn: the mean that is subtracted, what it is divided by "
            "(a sample's deviation divides by G - 1), and what happens when all rewards are equal.",
            "Return zeros before you divide if the largest reward is the smallest; else subtract "
            "the group's mean and divide by the group's std as torch computes it by default.",
        ),
    ),
    Assignment(
        7,
        "clipped_loss",
        "The clipped loss",
        minutes=30,
        lines=6,
        file="grpo.py",
        functions=("policy_loss",),
        paper="Section 3, J_RLVR; DAPO's clip-higher",
        points={
            "test_before_the_first_step": 2,
            "test_one_token_in_each_place": 3,
            "test_a_batch_of_tokens": 3,
            "test_the_share_of_clipped_tokens": 1,
            "test_an_extreme_ratio": 1,
        },
        hints=(
            "Draw the gain of one token against its ratio, once for A = 1 and once for A = -1. On "
            "which side of 1 is each of them flat?",
            "The clip itself stops nothing; what stops the gradient is which of the two products, "
            "with the ratio or with the clipped ratio, is taken. And a loss is minimised.",
            "Two products, ratio times A and clipped ratio times A; of each token the smaller one, "
            "times its weight, summed, with a minus. Clamp the difference of the log-probs before "
            "exp, to 20 on either side.",
        ),
        needs="6",
    ),
]

BY_NUMBER = {row.number: row for row in TABLE}
