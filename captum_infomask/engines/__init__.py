# The engines turn a ViewPlan into the network's outputs.
