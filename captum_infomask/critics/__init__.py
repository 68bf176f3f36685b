# Bounds, temperature and a fitted critic of a network, all computed from a loader.
