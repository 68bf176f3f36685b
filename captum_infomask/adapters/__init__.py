# Networks of other forms → networks that map pictures to logits. To add one: a file, a line here,
# a row in the tests, a block in docs/ and its line in docs/your_model.md.
from captum_infomask.adapters.area_posterior import area
from captum_infomask.adapters.best_detection import detection
from captum_infomask.adapters.gallery_classifier import gallery
from captum_infomask.adapters.zero_shot_classifier import zero_shot
from captum_infomask.models.huggingface_models import huggingface

__all__ = ["area", "detection", "gallery", "huggingface", "zero_shot"]
