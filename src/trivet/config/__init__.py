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
    ClassifierSection,
    ClientTimeouts,
    EmbedderSettings,
    EngineSettings,
    LabelsSection,
    LedgerSettings,
    ModelSettings,
    PolicySettings,
    PriceSettings,
    RuleSection,
    Section,
    ServerSettings,
    Settings,
    ShadowSection,
    TargetSettings,
    TargetTlsSettings,
    TimeoutSettings,
    TlsSettings,
    bound,
    floor,
    seconds,
)

__all__ = [
    "Settings",
    "TargetSettings",
    "TargetTlsSettings",
    "PolicySettings",
    "RuleSection",
    "CacheSection",
    "ClassifierSection",
    "LabelsSection",
    "ShadowSection",
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
    "bound",
    "floor",
    "seconds",
    "load",
    "parse",
    "home",
    "models_folder",
    "embedder_kind",
    "Secret",
    "secret",
]
