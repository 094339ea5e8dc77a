"""What an engine's process is told at its start: one JSON line. Knows no torch."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from prfaas.config.sections import EngineSection
from prfaas.core.shape import DType


class EngineSettings(BaseModel):
    """Front → engine: what to load, and the descriptors that both share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: str
    log_level: str
    model_path: Path
    dtype: DType
    engine: EngineSection
    arena_fd: int
    link_fd: int


class RankSettings(BaseModel):
    """Rank 0 → another rank of the same engine: whose slice to load, and where to meet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineSettings
    rank: int
    meeting_fd: int
