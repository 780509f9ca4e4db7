"""Every setting of every process: one definition gives its flag, variable, default, unit and help line."""

from siglip_settings.errors import SettingsError
from siglip_settings.fields import Setting, setting, settings_of
from siglip_settings.load import Resolved, all_settings, load, refuse_unknown, resolve
from siglip_settings.mask import masked
from siglip_settings.tables import (
    ClientSettings,
    DeviceSettings,
    DownloadSettings,
    GatewaySettings,
    JobSettings,
    ModelSettings,
    ModelsSettings,
    ProcessSettings,
    RedisSettings,
    ServeSettings,
    Tower,
    TrainSettings,
    WorkerSettings,
)

__all__ = [
    "ClientSettings",
    "DeviceSettings",
    "DownloadSettings",
    "GatewaySettings",
    "JobSettings",
    "ModelSettings",
    "ModelsSettings",
    "ProcessSettings",
    "RedisSettings",
    "Resolved",
    "ServeSettings",
    "Setting",
    "SettingsError",
    "Tower",
    "TrainSettings",
    "WorkerSettings",
    "all_settings",
    "load",
    "masked",
    "refuse_unknown",
    "resolve",
    "setting",
    "settings_of",
]
