"""The assignments: one row each. What a student does stands in NN_name.md beside this file."""

from pathlib import Path
from typing import NamedTuple

from hints import HINTS

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
    removed: tuple = ()  # what else of the file is left out of the hand-out
    seconds: int = 5  # that all tests may take, for one set of numbers
    needs: str = ""  # what one should have done before
    extra: tuple = ()  # further files of assignments/ that the hand-out holds

    @property
    def hints(self):
        return HINTS[self.number]

    @property
    def stem(self):
        return f"{self.number:02d}_{self.name}"

    def path(self, kind):
        """kind: text, test or wrong."""
        names = {"text": f"{self.stem}.md", "test": f"test_{self.stem}.py"}
        return HERE / names.get(kind, f"wrong_{self.stem}.py")


TABLE = [
    Assignment(
        1,
        "think_free",
        "X and x'",
        minutes=10,
        lines=3,
        file="thinkfree.py",
        functions=("think_free",),
        paper="Section 3, ThinkingFree(x)",
        points={
            "test_a_template_without_a_block": 2,
            "test_a_template_that_opens_the_block": 3,
            "test_a_prompt_that_is_thinking_free_already": 2,
            "test_what_the_user_wrote_stays": 2,
            "test_another_block": 1,
        },
    ),
    Assignment(
        2,
        "verifiable_reward",
        "The verifiable reward",
        minutes=25,
        lines=20,
        file="reward.py",
        functions=("extract_answer",),
        paper="Section 2, r(x, y)",
        points={
            "test_one_box": 2,
            "test_braces_in_the_box": 2,
            "test_several_boxes": 1,
            "test_thinking": 2,
            "test_an_unfinished_thought": 1,
            "test_an_unfinished_box": 1,
            "test_many_braces": 1,
        },
    ),
    Assignment(
        3,
        "pass_at_k",
        "Pass@k",
        minutes=15,
        lines=8,
        file="eval.py",
        functions=("pass_at_k", "pass_rates"),
        paper="Section 4, avg@k; Chen et al. 2021",
        points={
            "test_few_samples": 3,
            "test_the_ends": 2,
            "test_many_samples": 1,
            "test_numbers_that_make_no_sense": 1,
            "test_rates_of_problems": 3,
        },
    ),
    Assignment(
        4,
        "sampling",
        "Sampling at a temperature",
        minutes=30,
        lines=12,
        file="rollout.py",
        functions=("sample_tokens",),
        paper="Section 4, rollouts at temperature 1",
        points={
            "test_temperature_1": 3,
            "test_other_temperatures": 2,
            "test_temperature_0": 1,
            "test_what_cannot_happen": 1,
            "test_types_and_sizes": 2,
            "test_top_k_and_top_p": 1,
        },
    ),
    Assignment(
        5,
        "which_logprob",
        "Which log-prob belongs to which token",
        minutes=40,
        lines=14,
        file="logprobs.py",
        functions=("response_states",),
        paper="Section 3, the ratio r_{i,t}",
        points={
            "test_one_response": 3,
            "test_equal_lengths": 1,
            "test_unequal_lengths": 3,
            "test_the_stop_token_is_the_pad_token": 2,
            "test_the_gradient_flows": 1,
        },
        seconds=10,
    ),
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
        needs="6",
    ),
    Assignment(
        8,
        "token_weights",
        "Every token counts once",
        minutes=20,
        lines=10,
        file="grpo.py",
        functions=("token_weights",),
        paper="DAPO's token-level loss",
        points={
            "test_every_token_counts_once": 4,
            "test_every_response_counts_once": 2,
            "test_the_budget_in_the_place_of_the_length": 2,
            "test_one_response": 1,
            "test_an_unknown_normalizer_is_refused": 1,
        },
        needs="7",
    ),
    Assignment(
        9,
        "dynamic_sampling",
        "Dynamic sampling",
        minutes=30,
        lines=10,
        file="grpo.py",
        functions=("is_flat", "dynamic_sampling"),
        paper="DAPO, as Section 3 follows it",
        points={
            "test_what_is_flat": 2,
            "test_draws_go_on_until_there_are_enough": 3,
            "test_no_surplus": 2,
            "test_it_gives_up": 2,
            "test_groups_stay_whole": 1,
        },
        needs="6",
    ),
    Assignment(
        10,
        "one_step",
        "One step of TFPI",
        minutes=60,
        lines=15,
        file="tfpi.py",
        functions=("sample_groups", "train_step"),
        paper="Section 3, J_TFPI(theta) = E_x[J_RLVR(theta, x')]",
        points={
            "test_the_prompts_are_thinking_free": 2,
            "test_a_stage_with_thinking": 1,
            "test_what_the_sampler_is_told": 1,
            "test_random_streams": 1,
            "test_problems_in_turn": 1,
            "test_what_is_learnt_from": 3,
            "test_what_is_noted_down": 1,
        },
        needs="1, 6, 9",
    ),
    Assignment(
        11,
        "levelled_off",
        "When is a stage over?",
        minutes=25,
        lines=8,
        file="tfpi.py",
        functions=("levelled_off", "may_rise"),
        paper="Figure 8: the turning point of a stage",
        points={
            "test_the_line_through_the_shares": 2,
            "test_both_have_to_level_off": 2,
            "test_near_the_edge": 1,
            "test_only_the_last_ones_count": 1,
            "test_too_few_validations": 1,
            "test_getting_worse": 1,
            "test_another_window_and_least": 1,
            "test_an_answer_of_the_right_type": 1,
        },
        needs="10",
    ),
    Assignment(
        12,
        "read_the_curve",
        "Break it: read the curve",
        minutes=40,
        lines=0,
        file="answers_12.json",
        functions=(),
        paper="Figures 2 and 8: what a run shows of itself",
        points={"test_the_causes": 5, "test_the_evidence": 5},
        needs="6, 7, 9",
    ),
    Assignment(
        13,
        "predict_then_run",
        "Predict, then run",
        minutes=90,
        lines=0,
        file="answers_13.json",
        functions=(),
        paper="Tables 1 and 4: direct RL, multi-stage direct RL, TFPI",
        points={"test_the_commitment": 2, "test_the_runs": 2, "test_the_predictions": 6},
        extra=("commit.py",),
        needs="10",
    ),
    Assignment(
        14,
        "without_logits",
        "Log-probs without the logits",
        minutes=120,
        lines=30,
        file="logprobs.py",
        functions=("project_chunks",),
        paper="none: what makes 152k tokens of vocabulary fit",
        points={
            "test_log_probs": 2,
            "test_large_logits": 1,
            "test_bf16": 1,
            "test_gradients": 3,
            "test_only_one_gradient": 1,
            "test_what_token_grad_is_given": 1,
            "test_memory": 1,
        },
        needs="5",
    ),
    Assignment(
        15,
        "sampler",
        "A sampler with a cache",
        minutes=300,
        lines=80,
        file="rollout.py",
        functions=("generate",),
        removed=("Sampler",),
        paper="Section 1: rollouts are most of the cost",
        points={
            "test_greedy": 2,
            "test_sampled": 2,
            "test_ends": 1,
            "test_slots": 1,
            "test_no_token_twice": 2,
            "test_a_prompt_once_a_group": 1,
            "test_no_row_waits": 1,
        },
        seconds=60,
        needs="4, 5",
    ),
    Assignment(
        16,
        "project",
        "Does it transfer? A project",
        minutes=900,
        lines=0,
        file="answers_16.json",
        functions=(),
        paper="all of it",
        points={"test_three_seeds": 4, "test_one_change": 3, "test_the_arithmetic": 3},
        needs="13",
    ),
]

BY_NUMBER = {row.number: row for row in TABLE}
