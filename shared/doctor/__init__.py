"""The doctor: looks at what an installation stands on, and says what to do. Each file looks at one thing."""

from shared.doctor.finding import Finding, Level
from shared.doctor.model_files import look_at_models
from shared.doctor.programs import look_at_programs
from shared.doctor.redis_server import look_at_redis
from shared.doctor.store import look_at_storage
from shared.doctor.wishes import look_at_accounts, look_at_settings

__all__ = [
    "Finding",
    "Level",
    "look_at_accounts",
    "look_at_models",
    "look_at_programs",
    "look_at_redis",
    "look_at_settings",
    "look_at_storage",
]
