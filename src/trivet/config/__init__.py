"""One frozen settings tree, read from `trivet.toml` once.

`load` reads it, `Settings` is it. Not here: what a policy means (`routing/policies.py` compiles it) and which stages
are built from it (`build.py`).
"""

from trivet.config.load import embedder_kind, home, load, models_folder, parse
from trivet.config.secret import Secret, secret
from trivet.config.settings import (
    JUDGES,
    CacheSection,
    CacheSettings,
    ClientTimeouts,
    EmbedderSettings,
    EngineSettings,
    LedgerSettings,
    ModelSettings,
    PolicySettings,
    PriceSettings,
    RuleSection,
    Section,
    ServerSettings,
    Settings,
    TargetSettings,
    TargetTlsSettings,
    TimeoutSettings,
    TlsSettings,
    seconds,
)

__all__ = [
    "Settings",
    "TargetSettings",
    "TargetTlsSettings",
    "PolicySettings",
    "RuleSection",
    "CacheSection",
    "JUDGES",
    "PriceSettings",
    "TimeoutSettings",
    "TlsSettings",
    "EngineSettings",
    "EmbedderSettings",
    "ServerSettings",
    "ClientTimeouts",
    "LedgerSettings",
    "CacheSettings",
    "ModelSettings",
    "Section",
    "seconds",
    "load",
    "parse",
    "home",
    "models_folder",
    "embedder_kind",
    "Secret",
    "secret",
]
