# What a loader tells about a network's critic: its bounds, its temperature, a fit to views.
