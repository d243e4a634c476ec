"""What a user reads of a run: the plan before it, a line a step, and the table at its end."""

import math
import os
from statistics import median

from support.cli import visible
from support.config import MODES
from support.disk import write_json
from support.offload import HostAdamW
from support.page import write_page
from support.plan import GB, step_flops, step_hours, trained_budgets
from support.ranks import rank_0_alone

SLOW = 5  # times as long as the median of a stage's steps: worth a word


def step_line(metrics):
    """One step's metrics, behind the progress bar."""
    return (
        f"reward {metrics['reward']:.2f}, tokens {metrics['tokens']:.0f}, "
        f"truncated {metrics['truncated']:.0%}, flat {metrics['flat_groups']:.0%}, "
        f"grad {metrics['grad_norm']:.2f}, {metrics['step_seconds']:.1f} s"
    )


def find_trouble(metrics):
    """What went wrong in a step, as a sentence; nothing if all was well."""
    skipped = metrics["skipped"]
    updates = metrics["updates"]
    if updates and not skipped:
        return ""
    what = "no update, since every group was flat (all right or all wrong)"
    if skipped:
        left_out = f"{skipped} of {skipped + updates} updates left out"
        what = f"{left_out}, since loss or gradient was not finite"
    return f"{what}; {metrics['truncated']:.0%} of the responses were truncated."


def find_delay(seconds, before):
    """What to do about a step that took far longer than those before it, a list; else nothing.

    Programs beside it are the usual reason: with one process a core, each of them makes all wait.
    """
    usual = median(before) if len(before) >= 5 else math.inf
    if seconds < SLOW * usual:
        return ""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"it took {seconds:.1f} s, where {usual:.1f} are usual; the machine's load is {load} on "
        f"{os.cpu_count()} cores. If other programs need the cores, close them or --resume with "
        "fewer --ranks; if memory is short, lower --slots and --micro-tokens."
    )


def nothing_right(steps, metrics):
    """What to look at when no answer was right for so many steps (pitfall: rewards all 0)."""
    return (
        f"no right answer in {steps} steps in a row, so nothing is learnt. Look at a sample: is it "
        f"cut off before its answer ({metrics['truncated']:.0%} are: raise the budget), is there "
        "no \\boxed{} in it (see --instruction), or is the right answer of another form (see "
        "--data)?"
    )


def format_sample(tokenizer, rollout):
    """A response behind its prompt, as the model saw it, the empty block included."""
    text = tokenizer.decode(list(rollout.prompt_ids)) + rollout.text
    return visible(f"(reward {rollout.reward:.0f}, answer {rollout.gold}):\n{text[:800]}")


def describe(run, stages, prompts):
    """The plan, printed at once; prompts: lines on how they end (thinkfree.describe_prompts)."""
    config = run.config
    parameters = sum(p.numel() for p in run.model.parameters())
    print(
        f"model {config.model} ({parameters / 1e6:.2f}M parameters) on {run.model.device}; "
        f"recipe {config.recipe}; {len(run.train)} training problems; output in {run.folder}"
    )
    if run.state.dtype != "float32":
        print(f"  weights are fp32 here; stages are saved in {run.state.dtype}, as they came")
    if isinstance(run.optimizer, HostAdamW):
        dtype = str(run.model.dtype).removeprefix("torch.")
        print(f"  weights in fp32 are in the host's memory; the model computes in {dtype}")
    print("\n".join(f"  {line}" for line in run.plan))
    length = f"until it levels off, at most {config.stage_steps} steps"
    if config.steps:
        length = f"{config.steps} steps"
    for stage in stages:
        print(
            f"  {stage.name}: {'thinking' if stage.thinking else 'thinking-free'} prompts, "
            f"budget {stage.budget} tokens, {config.prompts} prompts x {config.group} rollouts a "
            f"step, {length}"
        )
    print("\n".join(f"  {line}" for line in prompts))
    if config.model == "small":
        print("  4 to 7 minutes on two CPU cores with the default settings")
    else:
        print("  the time left stands beside each bar")


def format_row(name, mode, result):
    """One measurement of one mode (a dict, eval.summarise's) as a line of the table."""
    return (
        f"{name:<8}{mode.replace('_', '-'):<14} "
        f"{100 * result['accuracy']:5.1f} ± {100 * result['error']:3.1f} %  "
        f"{result['tokens']:8.1f} tokens  {100 * result['truncated']:5.1f} % truncated  "
        f"{100 * result['verification']:5.1f} % verification  "
        f"{100 * result['thought']:5.1f} % think, {100 * result['empty']:.1f} % empty blocks"
    )


@rank_0_alone
def report(run):
    """Of a finished run: writes summary.json, prints its table, makes its figure and its page."""
    state = run.state
    table = state.evaluations
    first = table[0]["thinking"]
    seconds = run.seconds()
    summary = {
        "before": {mode: table[0][mode] for mode in MODES},
        "after": {mode: table[-1][mode] for mode in MODES},
        "stages": table[1:],
        "generated_tokens": state.generated_tokens,
        "flops": state.flops,
        "seconds": seconds,
    }
    write_json(run.folder / "summary.json", summary)  # first what is kept, then what is said
    print(
        f"\nTest problems, avg@{first['k']} of {first['problems']} problems (between stages "
        f"avg@1), budget {run.config.full_budget}:"
    )
    for entry in table:
        for mode in MODES:
            print(format_row(entry["name"], mode, entry[mode]))
    try:
        from support.plot import draw_run

        print(f"figure: {draw_run(run.folder)}")
    except (SystemExit, Exception) as error:  # optional, as matplotlib is: the run is over anyway
        print(visible(f"no figure: {error}"))
    try:
        print(f"report: {write_page(run.folder)}")
    except Exception as error:  # it is for looking: the run is over, and kept
        print(visible(f"report: {error}"))
    print(
        f"{state.step} steps, {state.generated_tokens / 1e6:.2f}M tokens generated for training, "
        f"{seconds / 60:.1f} minutes. Models and metrics: {run.folder}"
    )


# --------------------------------------------------------------------------------------------------
# In words


def describe_plan(plan, config):
    """The plan as lines."""
    parameters = plan.sizes.parameters
    billions = f"{parameters / 1e9:.2f}B" if parameters >= 1e8 else f"{parameters / 1e6:.2f}M"
    lines = [
        f"{config.model}: {billions} parameters, {plan.sizes.config.num_hidden_layers} layers; a "
        f"device of {plan.memory / GB:.0f} GB",
        f"  choice: {plan.choice.name}; computes in {describe_type(plan, config)}",
        *describe_memory(plan),
    ]
    if not plan.fits():
        return [*lines, f"  it does not fit: {plan.advice()}"]
    return lines + describe_times(plan, config) if plan.on_gpu else lines


def describe_type(plan, config):
    """What the model computes in, and why."""
    if plan.choice.offload == "no":
        return "bf16, under autocast, with weights in fp32" if plan.on_gpu else "fp32"
    if config.dtype == "fp16":
        return "fp16, with a scaled loss, since it was asked for or the card has no bf16"
    copied = plan.on_gpu or config.dtype == "bf16"
    return "bf16, a copy of the fp32 weights" if copied else "fp32"


def describe_memory(plan):
    """The two moments at which most is needed."""
    lines = [
        f"  sampling: {write_parts(plan.sampling())}; keys of {plan.keys()} tokens: "
        f"{plan.longest_at_once()} responses at once of {plan.length}, of shorter ones up to "
        f"{plan.slots}",
        f"  updating: {write_parts(plan.updating())}, {plan.tokens} tokens at once",
    ]
    return [*lines, f"  host: {write_parts(plan.host())}"] if plan.host() else lines


def describe_times(plan, config):
    lines = []
    requests = config.prompts * config.group
    steps = config.steps or config.stage_steps
    for budget in trained_budgets(config):
        hours = step_hours(plan, requests, budget)
        flops = step_flops(plan.sizes.parameters, config, budget)
        lines.append(
            f"  a step of budget {budget}: up to {requests * budget / 1e6:.1f}M tokens and "
            f"{flops / 1e15:.1f} PFLOP, at best {hours:.2f} h; a stage of {steps} steps "
            f"{hours * steps:.0f} h"
        )
    measured = config.eval_problems * config.eval_samples
    hours = step_hours(plan, measured, config.full_budget, trained=False)
    lines.append(f"  an evaluation with thinking: {measured} responses, at best {hours:.1f} h")
    return lines


def describe_start(plan, config):
    """The plan in a line; on a GPU in more."""
    most = max(sum(plan.sampling().values()), sum(plan.updating().values()))
    line = f"memory, by the plan: at most {most / GB:.1f} of {plan.memory / GB:.0f} GB"
    if not plan.on_gpu:
        return [f"{line} for each of {config.ranks} ranks of {config.threads} thread(s)"]
    return [f"{line}; {plan.choice.name}", *(more.strip() for more in describe_memory(plan))]


def write_parts(parts):
    total = sum(parts.values())
    unit, name_of_unit = (GB, "GB") if total >= GB else (1e6, "MB")
    named = ", ".join(f"{name} {value / unit:.1f}" for name, value in parts.items())
    return f"{total / unit:.1f} {name_of_unit} ({named})"
