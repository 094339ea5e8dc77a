"""The demo model's tokenizer: byte-level BPE with ChatML turns."""

import re

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
START_OF_TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(text: str, vocab_size: int) -> Tokenizer:
    """Trains on `text`; special tokens take ids 0, 1, 2. A short text may yield fewer than `vocab_size` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in (END_OF_TEXT, START_OF_TURN, END_OF_TURN)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def unreadable_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids that are not a whole word of `text` with the space before it: special tokens, bytes, pieces of words."""
    words = {" " + word for word in re.findall(r"[A-Za-z]+", text)}
    return [i for i in range(tokenizer.get_vocab_size()) if tokenizer.decode([i]) not in words]
