# Image → Regions: the sets of pixels that are scored as one.
