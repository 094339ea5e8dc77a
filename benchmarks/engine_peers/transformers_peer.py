"""transformers as a peer: its decoder, its cache, its `generate` loop. `python -m ... DIRECTORY THREADS`."""

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.engine_peers.line import Line


def main() -> None:
    line = Line()
    torch.set_num_threads(int(sys.argv[2]))
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    # Without an end of its own, and greedy: exactly `max_new_tokens` tokens.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    def answer(question: dict[str, Any]) -> dict[str, float]:
        ids = torch.tensor(question["prompts"])
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=question["new_tokens"],
                do_sample=False,
                use_cache=True,
            )
        seconds = time.perf_counter() - started
        assert out.shape[1] == ids.shape[1] + question["new_tokens"], "an answer ended early"
        return {"seconds": seconds}

    line.serve(answer)


if __name__ == "__main__":
    main()
