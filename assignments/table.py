"""The assignments: of each a text, NN_name.md beside this file, and the points of its tests here.

A hand-out has the texts of its own assignments alone.
"""

import re
from pathlib import Path
from typing import NamedTuple

from hints import HINTS

HERE = Path(__file__).resolve().parent


class Assignment(NamedTuple):
    """One assignment; its files are NN_name.md, test_NN_name.py and wrong_NN_name.py."""

    stem: str  # NN_name
    number: int
    title: str
    minutes: int  # for a student who knows PyTorch
    file: str  # where the functions stand; where the answer is no code, a file of answers, JSON
    functions: tuple  # that are blanked, and planted; empty where the answer is no code
    points: dict  # of each test; ten together
    removed: tuple = ()  # what else of the file is left out of the hand-out
    seconds: int = 5  # that all tests may take, for one set of numbers
    extra: tuple = ()  # further files of assignments/ that the hand-out holds

    @property
    def hints(self):
        return HINTS[self.number]

    def path(self, kind):
        """kind: text, test or wrong."""
        names = {"text": f"{self.stem}.md", "test": f"test_{self.stem}.py"}
        return HERE / names.get(kind, f"wrong_{self.stem}.py")


def read_row(path):
    """An assignment, by the head of its text: the title, and a paragraph that begins with the
    minutes and has in `backticks` the file, then the functions."""
    first, head = path.read_text(encoding="utf-8").split("\n\n")[:2]
    number = int(path.stem[:2])
    title = first.split(": ", 1)[1]
    minutes = int(re.match(r"\*(\d+) minutes", head)[1])
    file, *functions = re.findall("`(.+?)`", head)
    title = title[0].upper() + title[1:]
    points = POINTS[number]
    more = MORE.get(number, {})
    return Assignment(path.stem, number, title, minutes, file, tuple(functions), points, **more)


POINTS = {
    1: {
        "test_a_template_without_a_block": 2,
        "test_a_template_that_opens_the_block": 3,
        "test_a_prompt_that_is_thinking_free_already": 2,
        "test_what_the_user_wrote_stays": 2,
        "test_another_block": 1,
    },
    2: {
        "test_one_box": 2,
        "test_braces_in_the_box": 2,
        "test_several_boxes": 1,
        "test_thinking": 2,
        "test_an_unfinished_thought": 1,
        "test_an_unfinished_box": 1,
        "test_many_braces": 1,
    },
    3: {
        "test_few_samples": 3,
        "test_the_ends": 2,
        "test_many_samples": 1,
        "test_numbers_that_make_no_sense": 1,
        "test_rates_of_problems": 3,
    },
    4: {
        "test_temperature_1": 3,
        "test_other_temperatures": 2,
        "test_temperature_0": 1,
        "test_what_cannot_happen": 1,
        "test_types_and_sizes": 2,
        "test_top_k_and_top_p": 1,
    },
    5: {
        "test_one_response": 3,
        "test_equal_lengths": 1,
        "test_unequal_lengths": 3,
        "test_the_stop_token_is_the_pad_token": 2,
        "test_the_gradient_flows": 1,
    },
    6: {
        "test_an_ordinary_group": 3,
        "test_without_the_std": 1,
        "test_a_flat_group": 2,
        "test_the_rewards_stay_as_they_are": 1,
        "test_each_group_has_its_own_baseline": 2,
        "test_truncated_responses_count": 1,
    },
    7: {
        "test_before_the_first_step": 2,
        "test_one_token_in_each_place": 3,
        "test_a_batch_of_tokens": 3,
        "test_the_share_of_clipped_tokens": 1,
        "test_an_extreme_ratio": 1,
    },
    8: {
        "test_every_token_counts_once": 4,
        "test_every_response_counts_once": 2,
        "test_the_budget_in_the_place_of_the_length": 2,
        "test_one_response": 1,
        "test_an_unknown_normalizer_is_refused": 1,
    },
    9: {
        "test_what_is_flat": 2,
        "test_draws_go_on_until_there_are_enough": 3,
        "test_no_surplus": 2,
        "test_it_gives_up": 2,
        "test_groups_stay_whole": 1,
    },
    10: {
        "test_the_prompts_are_thinking_free": 2,
        "test_a_stage_with_thinking": 1,
        "test_what_the_sampler_is_told": 1,
        "test_random_streams": 1,
        "test_problems_in_turn": 1,
        "test_what_is_learnt_from": 3,
        "test_what_is_noted_down": 1,
    },
    11: {
        "test_the_line_through_the_shares": 2,
        "test_both_have_to_level_off": 2,
        "test_near_the_edge": 1,
        "test_only_the_last_ones_count": 1,
        "test_too_few_validations": 1,
        "test_getting_worse": 1,
        "test_another_window_and_least": 1,
        "test_an_answer_of_the_right_type": 1,
    },
    12: {
        "test_the_causes": 5,
        "test_the_evidence": 5,
    },
    13: {
        "test_the_commitment": 2,
        "test_the_runs": 2,
        "test_the_predictions": 6,
    },
    14: {
        "test_log_probs": 2,
        "test_large_logits": 1,
        "test_bf16": 1,
        "test_gradients": 3,
        "test_only_one_gradient": 1,
        "test_what_token_grad_is_given": 1,
        "test_memory": 1,
    },
    15: {
        "test_greedy": 2,
        "test_sampled": 2,
        "test_ends": 1,
        "test_slots": 1,
        "test_no_token_twice": 2,
        "test_a_prompt_once_a_group": 1,
        "test_no_row_waits": 1,
    },
    16: {
        "test_three_seeds": 4,
        "test_one_change": 3,
        "test_the_arithmetic": 3,
    },
}

MORE = {
    5: {"seconds": 10},
    13: {"extra": ("commit.py",)},
    15: {"removed": ("Sampler",), "seconds": 60},
}

TABLE = [read_row(path) for path in sorted(HERE.glob("[0-9][0-9]_*.md"))]
BY_NUMBER = {row.number: row for row in TABLE}
