# Image → Regions: which sets of pixels are scored as one.
