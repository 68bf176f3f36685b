# Frozen results: what is computed, saved and shown.
from captum_infomask.results.class_maps import ClassMaps
from captum_infomask.results.info_map import InfoMap

__all__ = ["ClassMaps", "InfoMap"]
