"""A short name for "these weights": instances whose names agree can exchange caches, in whatever dtype each serves."""

import dataclasses
import json
import os

import xxhash

from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ModelError
from prfaas.models.checkpoint import StoredTensor
from prfaas.models.weights import Weights

_SAMPLE_BYTES = 4096


def model_fingerprint(spec: DecoderSpec, weights: Weights) -> str:
    """xxh3-128 in hex over the decoder's spec and every tensor's name, shape and dtype in its file.

    Of the contents it samples the first and last 4 KiB of each tensor: cheap for huge checkpoints, and training
    changes all of them. Tensors go by canonical name, so neither spelling nor sharding matters.
    Raises ModelError if a file cannot be read.
    """
    digest = xxhash.xxh3_128()
    digest.update(json.dumps(dataclasses.asdict(spec), sort_keys=True).encode())
    handles: dict[str, int] = {}
    try:
        for name in sorted(weights.found):
            found = weights.found[name]
            digest.update(json.dumps([name, found.part.shape]).encode())
            for stored in found.stored:
                path = str(stored.file)
                if path not in handles:
                    handles[path] = os.open(path, os.O_RDONLY)
                digest.update(stored.dtype.encode())
                digest.update(_sample(handles[path], stored))
    except OSError as error:
        raise ModelError(f"cannot read {error.filename or 'a weight file'}: {error.strerror}") from error
    finally:
        for handle in handles.values():
            os.close(handle)
    return digest.hexdigest()


def _sample(handle: int, tensor: StoredTensor) -> bytes:
    size = min(_SAMPLE_BYTES, tensor.num_bytes)
    head = os.pread(handle, size, tensor.offset)
    tail = os.pread(handle, size, tensor.offset + tensor.num_bytes - size)
    return xxhash.xxh3_128_digest(head + tail)
