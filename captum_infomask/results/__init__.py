# The results: frozen objects that are computed, saved and shown.
from captum_infomask.results.class_maps import ClassMaps
from captum_infomask.results.comparison import Comparison
from captum_infomask.results.info_map import InfoMap
from captum_infomask.results.method_outcome import MethodOutcome

__all__ = ["ClassMaps", "Comparison", "InfoMap", "MethodOutcome"]
