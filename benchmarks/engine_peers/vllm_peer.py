"""vLLM as a peer: its offline class, without HTTP. `python -m ... DIRECTORY MAX_TOKENS`, by an interpreter that has it.

Threads and memory come from the environment, where vLLM looks for them.
"""

import importlib
import sys
import time
from typing import Any

from benchmarks.engine_peers.line import Line

MOST_STEP_TOKENS = 8192


def main() -> None:
    line = Line()
    # Not a dependency of ours: its environment is its own.
    vllm: Any = importlib.import_module("vllm")
    llm = vllm.LLM(
        model=sys.argv[1],
        dtype="bfloat16",
        max_model_len=int(sys.argv[2]),
        max_num_batched_tokens=MOST_STEP_TOKENS,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )

    def answer(question: dict[str, Any]) -> dict[str, float]:
        prompts = [{"prompt_token_ids": ids} for ids in question["prompts"]]
        sampling = vllm.SamplingParams(max_tokens=question["new_tokens"], temperature=0.0, ignore_eos=True)
        started = time.perf_counter()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        lengths = {len(output.outputs[0].token_ids) for output in outputs}
        assert lengths == {question["new_tokens"]}, "an answer ended early"
        return {"seconds": seconds}

    line.serve(answer)


if __name__ == "__main__":
    main()
