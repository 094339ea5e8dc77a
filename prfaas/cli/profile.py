"""`prfaas profile`: a profile file, measured on this machine or computed for another. Composes; knows no formulas."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from prfaas.cli.profile_measure import MeasureOptions, measured_profile
from prfaas.cli.profile_report import as_json, show_measured, show_profile
from prfaas.config.profile_file import ProfileFile
from prfaas.core.decoder_spec import DecoderSpec
from prfaas.core.errors import ConfigError, ModelError
from prfaas.core.families.registry import decoder_spec
from prfaas.core.model_files import read_config, read_json
from prfaas.core.shape import DType
from prfaas.planner.catalogue import MODELS, assumptions, catalogue, hosting
from prfaas.planner.gpus import gpu_of
from prfaas.planner.measured import Comparison, compare
from prfaas.planner.profile_text import profile_text
from prfaas.planner.published_models import published_config
from prfaas.planner.roofline import Assumptions, roofline_profile


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """As they were given; None where they were not."""

    model: str | None
    catalogue: Path | None
    out: Path | None
    dtype: DType | None
    lengths: str | None
    batches: str | None
    repeats: int | None
    threads: int | None
    gpu: str | None
    gpus: int | None
    efficiency: float | None
    overhead_s: float | None
    tpot_ms: float | None

    @property
    def for_measuring(self) -> dict[str, object]:
        return {
            "--dtype": self.dtype,
            "--lengths": self.lengths,
            "--batches": self.batches,
            "--repeats": self.repeats,
            "--threads": self.threads,
        }

    @property
    def for_roofline(self) -> dict[str, object]:
        return {
            "--gpus": self.gpus,
            "--efficiency": self.efficiency,
            "--overhead": self.overhead_s,
            "--tpot-ms": self.tpot_ms,
        }


def run_profile(options: ProfileOptions, *, json_output: bool) -> None:
    """Writes what was asked for. Raises ConfigError for options that do not go together, ModelError, EngineError."""
    progress = Console(stderr=True)
    if options.catalogue is not None:
        _refuse({"--model": options.model, "--gpu": options.gpu, "--out": options.out}, "--catalogue writes all files")
        _refuse(options.for_measuring | options.for_roofline, "--catalogue writes all files")
        _write_catalogue(options.catalogue, progress)
        return
    if options.model is None:
        raise ConfigError("give --model DIR to measure here, with --gpu NAME to compute, or --catalogue DIR")
    _check_out(options.out)
    comparisons: list[Comparison] = []
    if options.gpu is not None:
        _refuse(options.for_measuring, "--gpu computes a profile and measures nothing")
        profile = computed(options, options.model, options.gpu)
    else:
        _refuse(options.for_roofline, "without --gpu the profile is measured here")
        asked = MeasureOptions.parsed(
            Path(options.model), options.dtype, options.lengths, options.batches, options.repeats, options.threads
        )
        measured, profile = asyncio.run(measured_profile(asked, progress))
        comparisons = list(compare(measured, profile))
    _report(profile, comparisons, options.out, progress, json_output=json_output)


def computed(options: ProfileOptions, model: str, gpu: str) -> ProfileFile:
    """By the roofline. Raises ConfigError, ModelError."""
    name, spec = _described(model)
    assumed, origin = assumptions(name)
    given = Assumptions(
        efficiency=assumed.efficiency if options.efficiency is None else options.efficiency,
        overhead_s=assumed.overhead_s if options.overhead_s is None else options.overhead_s,
        tpot_s=assumed.tpot_s if options.tpot_ms is None else options.tpot_ms / 1e3,
    )
    if given.efficiency != assumed.efficiency or given.overhead_s != assumed.overhead_s:
        origin = " (as given)"
    return roofline_profile(name, spec, hosting(spec, gpu_of(gpu), (options.gpus or 8,)), given, origin)


def _described(model: str) -> tuple[str, DecoderSpec]:
    """A model by one of the names that we know, by its directory, or by its config.json."""
    known = {name.lower(): name for name in MODELS}
    path = Path(model)
    if name := known.get(model.lower()):
        return name, decoder_spec(published_config(name))
    if path.is_file():
        return path.resolve().parent.name, decoder_spec(read_json(path))
    if not path.exists():
        raise ModelError(f"{model} is neither a directory, nor a config.json, nor one of {', '.join(MODELS)}")
    return path.resolve().name, decoder_spec(read_config(path))


def _refuse(given: dict[str, object], because: str) -> None:
    if useless := [name for name, value in given.items() if value is not None]:
        raise ConfigError(f"{because}; leave out {', '.join(useless)}")


def _check_out(out: Path | None) -> None:
    """Before minutes are spent on what cannot be written."""
    if out is not None and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise ConfigError(f"--out {out}: give a file in a folder that exists")


def _report(
    profile: ProfileFile, comparisons: list[Comparison], out: Path | None, console: Console, *, json_output: bool
) -> None:
    """What programs read goes to stdout, what people read to stderr."""
    if out is not None:
        try:
            out.write_text(profile_text(profile), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out {out}: {error.strerror}; give a file that can be written") from None
    if json_output:
        sys.stdout.write(as_json(profile, comparisons) + "\n")
        return
    if comparisons:
        show_measured(comparisons, console)
    show_profile(profile, console)
    if out is None:
        sys.stdout.write(profile_text(profile))
    else:
        console.print(f"wrote {out}", highlight=False)


def _write_catalogue(folder: Path, console: Console) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--catalogue {folder}: give a folder; it is made if it does not exist")
    files = catalogue()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--catalogue {folder}: {error.strerror}; give a folder that can be written") from None
    console.print(f"wrote {len(files)} profiles to {folder}", highlight=False)
