"""TFPI in TRL: the same prompts x', stages and reward in its GRPOTrainer, on many GPUs.

    pip install trl accelerate datasets
    accelerate launch examples/trl_tfpi.py --model qwen3-4b --data polaris.jsonl --out runs/trl
    torchrun --nproc_per_node 2 examples/trl_tfpi.py --steps 5 --out runs/trl     # on a CPU

On a CPU, `accelerate launch --cpu` starts one process, whatever --num_processes says. The options
are those of tfpi.py, as far as TRL has a place for them, and all that TFPI changes is the prompt
column; vLLM (`use_vllm`), FSDP, DeepSpeed and several nodes are TRL's and accelerate's business.
Left out: no prompts are drawn in the place of flat groups, no stage ends by itself (but after
--steps, or --stage-steps), and nothing is measured: `python eval.py --model runs/trl/stage3`.
"""

import math
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from problems import load_data, take_problems
from reward import grade
from support.config import Config, check_config, find_settings, parse_arguments
from support.disk import write_json
from tfpi import stages
from thinkfree import check_prompts, render_all

CPU = not torch.cuda.is_available()


def rewards(completions, answer, **_):
    return [grade(text, gold)[1] for text, gold in zip(completions, answer)]


def make_rows(tokenizer, problems, config, thinking):
    """The data set of a stage: the prompt as text, so that TRL applies no chat template to it."""
    prompts = render_all(tokenizer, problems, config.instruction, thinking)
    start = tokenizer.decode(tokenizer("")["input_ids"])  # which TRL puts before text, once more
    rows = zip(prompts, problems, strict=True)
    return [{"prompt": text.removeprefix(start), "answer": p.answer} for text, p in rows]


def trl_options(config, stage, steps, folder):
    """What makes TRL do a step of tfpi.py; TRL counts optimizer steps, `minibatches` a batch."""
    total = config.prompts * config.group
    share = total // config.minibatches // int(os.environ.get("WORLD_SIZE", 1))
    batch = math.gcd(share, 8)  # responses through the model at once, in each process
    return {
        "output_dir": str(folder),
        "max_steps": steps * config.minibatches,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": share // batch,
        "generation_batch_size": total,
        "num_generations": config.group,
        "max_completion_length": stage.budget,
        "temperature": config.temperature,
        "top_k": 0,  # all tokens, as in rollout.py
        "learning_rate": config.lr,
        "lr_scheduler_type": "constant",
        "loss_type": config.normalizer,
        "epsilon": config.eps_low,
        "epsilon_high": config.eps_high,
        "beta": 0.0,  # no KL term
        "mask_truncated_completions": False,  # what was cut off is wrong, and is learnt from
        "shuffle_dataset": False,
        "seed": config.seed,
        "use_cpu": CPU,
        "bf16": not CPU,
        "generation_kwargs": {"use_cache": True},  # also where checkpointing switches it off
        "logging_steps": config.minibatches,
        "save_strategy": "no",
        "report_to": "none",
    }


def main(argv=None):
    given, _ = parse_arguments(argv)
    settings = find_settings(given.get("model", "small"))
    config = Config(**(settings | given))
    check_config(config)
    model = settings["model"]
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    check_prompts(tokenizer)
    train = load_data(config.data).train
    out = Path(config.out or "runs/trl")
    if os.environ.get("RANK", "0") == "0":  # by which eval.py knows what its stages need
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "config.json", asdict(config))
    cursor = 0
    for stage in stages(config):
        folder = out / stage.name
        steps = config.steps or config.stage_steps
        problems = take_problems(train, cursor, steps * config.prompts, config.seed)
        cursor += len(problems)
        rows = Dataset.from_list(make_rows(tokenizer, problems, config, stage.thinking))
        options = GRPOConfig(**trl_options(config, stage, steps, folder))
        trainer = GRPOTrainer(model, rewards, options, rows, processing_class=tokenizer)
        trainer.train()
        trainer.save_model()
        trainer.accelerator.wait_for_everyone()
        model = str(folder)  # the next stage goes on from there


if __name__ == "__main__":
    main()
