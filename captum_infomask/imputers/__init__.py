# What stands in for the pixels that a view hides. To add one: a file, a line here, a test row.
from captum_infomask.imputers.base import Imputer, StandIn
from captum_infomask.imputers.blur import Blur
from captum_infomask.imputers.constant import Constant

__all__ = ["Blur", "Constant", "Imputer", "StandIn"]
